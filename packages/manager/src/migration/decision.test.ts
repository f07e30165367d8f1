import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { testCapabilities } from '@virt-trust/contract/model/fixtures.ts';
import { MIGRATION_MODES, type MigrationMode } from '@virt-trust/contract/model/migration-options.ts';
import { MigrationDecision } from '@virt-trust/contract/model/migration-plan.ts';
import { validatorOf } from '@virt-trust/contract/validate.ts';
import fc from 'fast-check';
import { decideMigration } from './decision.ts';
import type { HostFacts } from './facts.ts';
import { testFacts } from './fixtures.ts';

const checked = validatorOf(MigrationDecision);
const ask = (
  source: HostFacts,
  destination: HostFacts,
  requested: readonly MigrationMode[] | null = null,
  address = '192.0.2.12',
) =>
  checked(
    decideMigration({
      vm: 'guest',
      source,
      destination,
      requested,
      addresses: { tls: address, plain: address },
    }),
    'the decision of a test',
  );

const A = testFacts('a');
const B = testFacts('b');
const noTls = (name: string) => testFacts(name, { capabilities: testCapabilities({ libvirtTls: null }) });
const off = (name: string) => testFacts(name, { tls: { value: false, from: 'cluster rack1' } });
const tcpOnly = (name: string) =>
  testFacts(name, {
    unproven: ['libvirt', 'migration'],
    capabilities: testCapabilities({
      libvirtTls: null,
      nativeTls: false,
      nativeTlsLacks: 'no files',
      pinned: false,
    }),
  });
const forced = (name: string) =>
  testFacts(name, { capabilities: testCapabilities({ migrateTlsForce: true }) });
const quiet = (name: string) => testFacts(name, { capabilities: testCapabilities({ libvirtTcp: null }) });
const unmanaged = testFacts('c', { kind: 'unmanaged', capabilities: null, unproven: [] });
const observed = (name: string) => testFacts(name, { kind: 'observed', unproven: ['libvirt', 'migration'] });
const unreported = (name: string) => testFacts(name, { capabilities: null });
const only = (name: string, ...modes: MigrationMode[]) =>
  testFacts(name, { modes: { value: modes, from: 'global' } });

/** Each row: what it is called, both hosts, what was asked for, what comes of it, and what the explanation says. */
const TABLE: readonly (readonly [
  string,
  HostFacts,
  HostFacts,
  readonly MigrationMode[] | null,
  string,
  RegExp,
])[] = [
  ['both have TLS', A, B, null, 'tls by source', /mode tls over qemu\+tls:\/\/192\.0\.2\.12\/system/],
  ['pinned was asked for first', A, B, ['pinned', 'tls'], 'pinned by source', /over pinned:\/\/b/],
  ['plain was asked for', A, B, ['plain'], 'plain by source', /over qemu\+tcp:/],
  ["the source's order has pinned first", only('a', 'pinned', 'tls'), B, null, 'pinned by source', /agents/],
  ["the destination's order does not count", A, only('b', 'pinned', 'tls'), null, 'tls by source', /tls/],
  ['TLS is off for the source', off('a'), B, null, 'pinned by source', /off for a \(cluster rack1\)/],
  ['TLS is off for the destination', A, off('b'), null, 'pinned by source', /off for b \(cluster rack1\)/],
  ['TLS is off and tls was asked for', A, off('b'), ['tls'], 'refused', /off for b \(cluster rack1\)/],
  [
    'the destination does not listen with TLS',
    A,
    noTls('b'),
    null,
    'pinned by source',
    /libvirt of b does not listen with TLS/,
  ],
  [
    'the source does not listen with TLS',
    noTls('a'),
    B,
    null,
    'pinned by source',
    /libvirt of a does not listen with TLS/,
  ],
  [
    'the destination listens with TLS for itself alone',
    A,
    testFacts('b', {
      capabilities: testCapabilities({ libvirtTls: { addresses: ['127.0.0.1', '::1'], port: 16514 } }),
    }),
    null,
    'pinned by source',
    /libvirt of b does not listen with TLS/,
  ],
  [
    'one lacks native TLS',
    A,
    testFacts('b', {
      capabilities: testCapabilities({ nativeTls: false, nativeTlsLacks: 'QEMU cannot read server-key.pem' }),
    }),
    null,
    'pinned by source',
    /QEMU of b has no TLS for migrations \(QEMU cannot read server-key\.pem\)/,
  ],
  [
    'one has no proven certificate',
    testFacts('a', { unproven: ['migration'] }),
    B,
    null,
    'pinned by source',
    /a has no proven certificate for migration/,
  ],
  [
    'the other can do plain TCP only',
    A,
    tcpOnly('b'),
    null,
    'plain by source',
    /the agent on b cannot take part in mode pinned/,
  ],
  ['the source can do plain TCP only', tcpOnly('a'), B, null, 'plain by source', /mode plain/],
  ['nothing but TLS is let in, and both have it', forced('a'), forced('b'), null, 'tls by source', /tls/],
  [
    'nothing but TLS is let in, and the source lacks it',
    off('a'),
    forced('b'),
    null,
    'refused',
    /QEMU of b refuses migrations without native TLS/,
  ],
  [
    'the source lets nothing but TLS go, and the destination lacks it',
    forced('a'),
    tcpOnly('b'),
    null,
    'refused',
    /QEMU of a refuses/,
  ],
  [
    'nobody listens for plain TCP',
    off('a'),
    testFacts('b', { capabilities: testCapabilities({ libvirtTcp: null, pinned: false }) }),
    null,
    'refused',
    /libvirt of b does not listen for plain TCP/,
  ],
  [
    'plain TCP is not listened for at the source, which does not matter',
    quiet('a'),
    tcpOnly('b'),
    null,
    'plain by source',
    /plain/,
  ],
  [
    'plain TCP wants SASL',
    A,
    testFacts('b', {
      capabilities: testCapabilities({
        libvirtTcp: { addresses: ['0.0.0.0'], port: 16509, authentication: 'sasl' },
      }),
    }),
    ['plain'],
    'refused',
    /libvirt of b demands sasl/,
  ],
  [
    'libvirt of the destination is stopped',
    A,
    testFacts('b', { startsLibvirt: 'ssh root@b systemctl start libvirtd' }),
    null,
    'refused',
    /tls: libvirt of b is stopped.*pinned: libvirt of b is stopped.*plain: libvirt of b is stopped/,
  ],
  ['the destination has no agent', A, unmanaged, null, 'plain by source', /c has no agent/],
  ['the source has no agent', unmanaged, B, null, 'plain by destination', /c has no agent/],
  [
    'neither has an agent',
    unmanaged,
    testFacts('d', { kind: 'unmanaged', capabilities: null }),
    null,
    'refused',
    /neither c nor d has an agent/,
  ],
  [
    'pinned was asked for, and the other has no agent',
    A,
    unmanaged,
    ['pinned'],
    'refused',
    /pinned: c has no agent/,
  ],
  ['tls was asked for, and the other has no agent', A, unmanaged, ['tls'], 'refused', /tls: c has no agent/],
  [
    'tls alone is allowed at the managed side',
    only('a', 'tls'),
    unmanaged,
    null,
    'refused',
    /tls: c has no agent/,
  ],
  [
    'plain is not allowed towards the other',
    A,
    testFacts('c', { kind: 'unmanaged', capabilities: null, modes: { value: ['tls'], from: 'cluster old' } }),
    null,
    'refused',
    /plain: the setting migration\.mode of c \(cluster old\) leaves it out/,
  ],
  [
    'the managed side lets nothing but TLS go to a host without agent',
    forced('a'),
    unmanaged,
    null,
    'refused',
    /QEMU of a refuses/,
  ],
  [
    'the managed side lets nothing but TLS in from a host without agent',
    unmanaged,
    forced('b'),
    null,
    'refused',
    /QEMU of b refuses/,
  ],
  [
    'the destination is only observed',
    A,
    observed('b'),
    null,
    'plain by source',
    /the agent on b only looks/,
  ],
  [
    'the source is only observed',
    observed('a'),
    B,
    null,
    'plain by destination',
    /the agent on a only looks/,
  ],
  [
    'the observed source does not listen',
    testFacts('a', { kind: 'observed', capabilities: testCapabilities({ libvirtTcp: null }) }),
    B,
    null,
    'refused',
    /libvirt of a does not listen for plain TCP/,
  ],
  ['both are only observed', observed('a'), observed('b'), null, 'refused', /neither a nor b has an agent/],
  [
    'the destination has not reported',
    A,
    unreported('b'),
    null,
    'refused',
    /b has not reported what it can do, so it counts as not secured/,
  ],
  ['the source has not reported', unreported('a'), B, null, 'refused', /a has not reported/],
  [
    'the only agent has not reported',
    unreported('a'),
    unmanaged,
    null,
    'refused',
    /plain: a has not reported/,
  ],
  [
    'the observed host has not reported',
    A,
    testFacts('b', { kind: 'observed', capabilities: null }),
    null,
    'refused',
    /plain: b has not reported/,
  ],
  [
    'the hosts have no mode in common',
    only('a', 'tls'),
    only('b', 'pinned'),
    null,
    'refused',
    /migration\.mode of b \(global\) leaves it out/,
  ],
  [
    'the request asks for what the source leaves out',
    only('a', 'tls'),
    B,
    ['plain'],
    'refused',
    /plain: the setting migration\.mode of a \(global\) leaves it out/,
  ],
  [
    'the agents speak other versions',
    testFacts('a', { capabilities: testCapabilities({ peerVersions: [1] }) }),
    testFacts('b', { capabilities: testCapabilities({ peerVersions: [2] }) }),
    ['pinned'],
    'refused',
    /no version of the peer API in common \(a 1; b 2\)/,
  ],
  [
    'a host is barred',
    A,
    testFacts('b', { barred: 'host b is not to be trusted' }),
    null,
    'refused',
    /host b is not to be trusted/,
  ],
];

describe('what decides how a VM migrates', () => {
  for (const [title, source, destination, requested, outcome, said] of TABLE)
    it(`${outcome === 'refused' ? 'refuses' : `takes ${outcome}`} where ${title}`, () => {
      const decision = ask(source, destination, requested);
      assert.equal(
        decision.mode === null ? 'refused' : `${decision.mode} by ${decision.conductor}`,
        outcome,
        decision.explanation,
      );
      assert.match(decision.explanation, said);
    });

  it('says so where no mode was asked for, and takes one that is there twice for once', () => {
    assert.match(ask(A, B, []).explanation, /no mode is feasible: none was asked for$/);
    const twice = ask(A, B, ['pinned', 'pinned', 'tls']);
    assert.deepEqual([twice.mode, twice.order], ['pinned', ['pinned', 'tls']]);
  });

  it('brackets an IPv6 address in the URI', () => {
    assert.equal(ask(A, B, null, 'fd00::12').uri, 'qemu+tls://[fd00::12]/system');
  });

  it('says whose word the order is', () => {
    assert.equal(ask(A, B).orderFrom, 'setting migration.mode of a (default)');
    assert.equal(ask(A, B, ['pinned']).orderFrom, 'request');
  });

  it('warns of what crosses the network in the clear, and says why nothing better was taken', () => {
    const [warning] = ask(A, unmanaged).warnings;
    assert.match(
      warning ?? '',
      /guest crosses the network from a to c in the clear.*tls: c has no agent; pinned: c has no agent/,
    );
  });

  it('answers every combination of facts soundly', () => {
    let cases = 0;
    for (const source of EVERY('a'))
      for (const destination of EVERY('b'))
        for (const requested of REQUESTS) {
          assertSound(source, destination, requested);
          cases += 1;
        }
    assert.equal(cases, EVERY('a').length ** 2 * REQUESTS.length);
  });

  it('answers soundly whatever the order of modes', () => {
    const orders = fc.uniqueArray(fc.constantFrom(...MIGRATION_MODES), { minLength: 1 });
    const facts = (name: string) =>
      fc
        .tuple(fc.constantFrom(...EVERY(name)), orders)
        .map(([one, value]) => ({ ...one, modes: { value, from: 'global' } }));
    fc.assert(
      fc.property(facts('a'), facts('b'), fc.option(orders), (source, destination, requested) => {
        assertSound(source, destination, requested);
      }),
    );
  });
});

const REQUESTS: readonly (readonly MigrationMode[] | null)[] = [
  null,
  ['tls'],
  ['pinned'],
  ['plain'],
  ['plain', 'tls'],
  ['pinned', 'plain', 'tls'],
];

/** Every combination of what bears on the decision for one host. */
function EVERY(name: string): HostFacts[] {
  const yesNo = [true, false];
  const hosts: HostFacts[] = [];
  for (const kind of ['managed', 'observed', 'unmanaged'] as const)
    for (const modes of [MIGRATION_MODES, ['tls'] as const, ['pinned', 'plain'] as const])
      for (const tls of yesNo) {
        const base = { kind, modes: { value: modes, from: 'global' }, tls: { value: tls, from: 'global' } };
        hosts.push(testFacts(name, { ...base, capabilities: null }));
        if (kind === 'unmanaged') continue;
        for (const tlsThere of yesNo)
          for (const tcpThere of yesNo)
            for (const migrateTlsForce of yesNo)
              for (const pinned of yesNo)
                hosts.push(
                  testFacts(name, {
                    ...base,
                    unproven: tlsThere ? [] : ['libvirt'],
                    capabilities: testCapabilities({
                      migrateTlsForce,
                      pinned,
                      nativeTls: tlsThere,
                      ...(tlsThere ? {} : { libvirtTls: null }),
                      ...(tcpThere ? {} : { libvirtTcp: null }),
                    }),
                  }),
                );
      }
  return hosts;
}

/** What holds of every decision, told from the facts in other words than the decision's own. */
function assertSound(
  source: HostFacts,
  destination: HostFacts,
  requested: readonly MigrationMode[] | null,
): void {
  const decision = decideMigration({
    vm: 'guest',
    source,
    destination,
    requested,
    addresses: { tls: '192.0.2.12', plain: '192.0.2.12' },
  });
  const both = (holds: (host: HostFacts) => boolean) => holds(source) && holds(destination);
  const { mode, explanation, verdicts, hint, warnings } = decision;
  assert.ok(explanation.includes('guest') && explanation.includes('from a to b'));
  assert.deepEqual(verdicts.map((one) => one.mode).toSorted(), [...MIGRATION_MODES].toSorted());
  for (const verdict of verdicts) assert.ok(verdict.reasons.length > 0 && verdict.reasons.every(Boolean));
  const possible: Record<MigrationMode, boolean> = {
    tls: both(
      ({ kind, tls, capabilities, unproven }) =>
        kind === 'managed' &&
        tls.value &&
        unproven.length === 0 &&
        capabilities !== null &&
        capabilities.libvirtTls !== null &&
        capabilities.nativeTls,
    ),
    pinned: both(
      ({ kind, capabilities }) =>
        kind === 'managed' && capabilities?.pinned === true && !capabilities.migrateTlsForce,
    ),
    plain:
      (source.kind === 'managed' || destination.kind === 'managed') &&
      both(({ kind, capabilities }) =>
        capabilities === null ? kind === 'unmanaged' : !capabilities.migrateTlsForce,
      ) &&
      listens(source.kind === 'managed' ? destination : source),
  };
  const allowed = (one: MigrationMode) =>
    (requested ?? source.modes.value).includes(one) && both(({ modes }) => modes.value.includes(one));
  const first = (requested ?? source.modes.value).find((one) => allowed(one) && possible[one]) ?? null;
  assert.equal(mode, first, explanation);
  if (mode === null) {
    assert.ok(hint !== null && hint !== '');
    assert.deepEqual([decision.uri, decision.conductor, warnings], [null, null, []]);
    for (const one of verdicts) assert.equal(one.feasible, false);
    return;
  }
  assert.ok(decision.uri !== null && decision.conductor !== null);
  assert.equal(warnings.length > 0, mode === 'plain');
  assert.equal(verdicts.find((one) => one.mode === mode)?.feasible, true);
}

function listens({ kind, capabilities }: HostFacts): boolean {
  return kind === 'unmanaged' ? capabilities === null : capabilities?.libvirtTcp?.authentication === 'none';
}

it('a listener that is elsewhere than libvirt would be reached counts as none, and where it is is said', () => {
  const listening = (...addresses: string[]) =>
    testFacts('b', {
      capabilities: testCapabilities({
        libvirtTls: { addresses, port: 16514 },
        libvirtTcp: { addresses, port: 16509, authentication: 'none' },
      }),
    });
  const modeOf = (address: string, ...addresses: string[]) =>
    ask(A, listening(...addresses), ['tls', 'plain'], address);
  for (const [address, addresses] of [
    ['192.0.2.12', ['192.0.2.12']],
    ['192.0.2.12', ['198.51.100.1', '0.0.0.0']],
    ['192.0.2.12', ['::']],
    ['192.0.2.12', ['*']],
    ['2001:db8::12', ['2001:DB8:0::12']],
    ['b.example', ['198.51.100.1']],
  ] as const)
    assert.equal(modeOf(address, ...addresses).mode, 'tls', `${address} at ${addresses.join()}`);
  for (const [address, addresses] of [
    ['192.0.2.12', ['198.51.100.1', '127.0.0.1']],
    ['2001:db8::12', ['0.0.0.0']],
  ] as const) {
    const { mode, explanation } = modeOf(address, ...addresses);
    assert.equal(mode, null, `${address} at ${addresses.join()}`);
    const where = addresses.join(', ').replaceAll('.', '\\.');
    assert.match(
      explanation,
      new RegExp(`tls: libvirt of b listens with TLS on ${where} alone, not on ${address}`),
    );
    assert.match(explanation, new RegExp(`plain: libvirt of b listens for plain TCP on ${where} alone`));
  }
});

it("a migrate_tls_force of settings that hold no more is told as what follows by itself, not as somebody else's word", () => {
  const brought = { migrateTlsForce: true };
  const modes = { value: ['pinned', 'plain'], from: 'cluster rack1' } as const;
  const behind = testFacts('b', { capabilities: testCapabilities(brought), isForceDue: true, modes });
  for (const [source, destination] of [
    [testFacts('a', { modes }), behind],
    [behind, testFacts('a', { modes })],
  ] as const) {
    const { mode, explanation, hint } = ask(source, destination);
    assert.equal(mode, null);
    assert.match(
      explanation,
      /pinned: QEMU of b refuses .*\(migrate_tls_force\): it still has the former migration\.mode \(now pinned, plain, from cluster rack1\)/,
    );
    assert.match(hint ?? '', /follows by itself.*virt-trust host show b/);
  }
});
