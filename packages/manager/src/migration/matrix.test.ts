import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { instant } from '@virt-trust/base/instant.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { parseSpkiPin } from '@virt-trust/base/spki-pin.ts';
import type { HostCapabilities } from '@virt-trust/contract/model/capabilities.ts';
import { testCapabilities } from '@virt-trust/contract/model/fixtures.ts';
import {
  declaredOn,
  settledState,
  testHost,
  testInterface,
  testInventory,
  testLibvirt,
} from '../hosts/fixtures.ts';
import { type MatrixContext, matrixOf } from './matrix.ts';
import type { MigrationEnd } from './migration-end.ts';

const PIN = parseSpkiPin(`sha256:${'A'.repeat(43)}`);

function managed(index: number, more: Partial<HostCapabilities> | null = {}): MigrationEnd {
  const name = `h${index}`;
  const address = `192.0.${index >> 8}.${index & 255}`;
  const libvirt = testLibvirt({ hostUuid: name });
  return {
    kind: 'managed',
    name,
    host: testHost(name, {
      agentPins: [PIN],
      declared: declaredOn('eth0', { dns: [name], addresses: [address] }),
      inventory: testInventory({ libvirt, interfaces: [testInterface('eth0', [address])] }),
      observed: settledState('ours', {
        capabilities: more === null ? null : testCapabilities({ libvirtTcp: null, ...more }),
      }),
    }),
  };
}

const UNMANAGED: MigrationEnd = {
  kind: 'unmanaged',
  name: 'old',
  host: { name: 'old', cluster: 'default', address: '192.0.9.9', addedAt: 0 },
};

/** What a matrix asks of the manager, with how often. */
function context() {
  const asked = { certificates: 0, settings: 0 };
  const parts = {
    clock: { now: () => instant(0) },
    log: silentLog,
    channels: { stateOf: () => ({ kind: 'up' }) },
    revocations: { revocationOf: () => null },
    certificates: {
      namesOf: async () => {
        asked.certificates++;
        return null;
      },
    },
    settings: {
      explain: async (name: string) => {
        asked.settings++;
        const value = name === 'migration.mode' ? ['tls', 'pinned', 'plain'] : true;
        return { value, chain: [] };
      },
    },
  };
  return { asked, context: parts as unknown as MatrixContext };
}

const signal = new AbortController().signal;

describe('the matrix of migrations', () => {
  it('has each host towards each other, and none towards itself', async () => {
    const ends = [managed(1), managed(2), managed(3, { nativeTls: false }), managed(4, null), UNMANAGED];
    const { hosts, pairs, probed } = await matrixOf(ends, context().context, { probe: false, signal });
    assert.deepEqual([hosts, probed], [['h1', 'h2', 'h3', 'h4', 'old'], false]);
    const cells = new Map(pairs.map((pair) => [`${pair.from} ${pair.to}`, `${pair.mode} ${pair.ready}`]));
    assert.equal(cells.size, 20);
    assert.equal(cells.get('h1 h2'), 'tls true');
    assert.equal(cells.get('h1 h3'), 'pinned true');
    assert.equal(cells.get('h1 h4'), 'null false');
    assert.equal(cells.get('h1 old'), 'plain true');
    assert.equal(cells.get('old h1'), 'plain true');
    const refused = pairs.find(({ from, to }) => from === 'h1' && to === 'h4');
    assert.equal(refused?.findings[0]?.code, 'mode.none');
    assert.match(refused?.detail ?? '', /h4 has not reported/);
    const plain = pairs.flatMap(({ findings }) => findings.filter(({ code }) => code === 'mode.plain'));
    // One thing is wrong, and is said in the same words of each pair, so that it can be shown once.
    assert.deepEqual([plain.length, new Set(plain.map((one) => JSON.stringify(one))).size], [6, 1]);
    assert.match(plain[0]?.what ?? '', /from or to old, which has no agent, crosses .* in the clear/);
  });

  it('reads what is known of a host once, however many pairs it is one of', async () => {
    const reads = async (count: number) => {
      const { asked, context: parts } = context();
      const ends = Array.from({ length: count }, (_, index) => {
        const end = managed(index + 1);
        if (end.kind !== 'managed') return end;
        const credentials = end.host.observed?.credentials.map((one) => {
          return { ...one, serialNumber: `${index}`.padStart(4, '0') };
        });
        const observed = { ...settledState('ours'), ...end.host.observed, credentials: credentials ?? [] };
        return { ...end, host: { ...end.host, observed } };
      });
      const { pairs } = await matrixOf(ends, parts, { probe: false, signal });
      assert.equal(pairs.length, count * (count - 1));
      return asked;
    };
    const [few, many] = [await reads(5), await reads(50)];
    assert.deepEqual(many, { certificates: 10 * few.certificates, settings: 10 * few.settings });
    assert.equal(many.certificates, 50);
  });

  it('ends when nobody waits for it any more', async () => {
    const ends = Array.from({ length: 30 }, (_, index) => managed(index + 1));
    await assert.rejects(
      matrixOf(ends, context().context, { probe: false, signal: AbortSignal.abort(new Error('gone')) }),
      /gone/,
    );
  });
});
