import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { instant } from '@virt-trust/base/instant.ts';
import { testCapabilities } from '@virt-trust/contract/model/fixtures.ts';
import type { PreflightHandshake, PreflightReport } from '@virt-trust/contract/model/preflight.ts';
import { settledState, testHost } from '../hosts/fixtures.ts';
import type { MigrationEnd } from './migration-end.ts';
import { type PairFacts, pairFindings } from './pair-findings.ts';
import { blocking } from './preflight.ts';

const PIN = `sha256:${'B'.repeat(43)}`;
const OTHER_PIN = `sha256:${'C'.repeat(43)}`;

const managed = (name: string): MigrationEnd => {
  const state = settledState('ours');
  const credentials = state.credentials.map((one) => ({ ...one, pin: PIN }));
  return { kind: 'managed', name, host: testHost(name, { observed: { ...state, credentials } }) };
};

const UNMANAGED: MigrationEnd = {
  kind: 'unmanaged',
  name: 'b',
  host: { name: 'b', cluster: 'default', address: '192.0.2.2', addedAt: 0 },
};

const handshake = (more: Partial<PreflightHandshake> = {}): PreflightHandshake => ({
  service: 'migration',
  from: 'a',
  to: 'b',
  target: '192.0.2.2:49200',
  verified: '192.0.2.2',
  outcome: 'good',
  servedPin: PIN,
  serialNumber: '0a',
  notAfter: 1,
  detail: '',
  ...more,
});

const side = (aheadMs = 0, more: Partial<PreflightReport> = {}) => ({
  aheadMs,
  report: {
    now: 0,
    capabilities: testCapabilities(),
    hostUuid: '',
    vm: null,
    handshakes: [],
    findings: [],
    ...more,
  },
});

const facts = (more: Partial<PairFacts> = {}): PairFacts => ({
  question: { from: managed('a'), to: managed('b'), mode: 'tls' },
  source: side(0, { hostUuid: 'one' }),
  destination: side(0, { hostUuid: 'two' }),
  revocations: { revocationOf: () => null },
  allowedSkewSeconds: 3900,
  ...more,
});

describe('two hosts held against each other', () => {
  const cases: readonly (readonly [title: string, facts: PairFacts, expected: readonly string[]])[] = [
    ['have nothing against each other', facts(), []],
    [
      'are not one by their UUID',
      facts({ source: side(0, { hostUuid: 'x' }), destination: side(0, { hostUuid: 'x' }) }),
      ['error host.same_uuid'],
    ],
    ['are not one where neither said a UUID', facts({ source: side(), destination: side() }), []],
    ['may differ by seconds', facts({ destination: side(59_000) }), []],
    ['are told of minutes', facts({ destination: side(-90_000) }), ['warning clock.apart']],
    [
      'differ by no more than is allowed',
      facts({ source: side(-3_000_000), destination: side(3_000_000) }),
      ['error clock.apart'],
    ],
    [
      'have no clock that is wrong by the manager’s',
      facts({ destination: side(-4_000_000) }),
      ['error clock.wrong'],
    ],
    [
      'serve nothing that was revoked, whatever they themselves know',
      facts({
        source: side(0, { handshakes: [handshake()] }),
        revocations: {
          revocationOf: (serial) => (serial === '0a' ? { at: instant(0), reason: 'keyCompromise' } : null),
        },
      }),
      ['unsafe crl.revoked'],
    ],
    [
      'serve the key that they were given',
      facts({ source: side(0, { handshakes: [handshake({ servedPin: OTHER_PIN })] }) }),
      ['warning served.other'],
    ],
    ['are seen serving what they were given', facts({ source: side(0, { handshakes: [handshake()] }) }), []],
    [
      'know channel keys by other means',
      facts({ source: side(0, { handshakes: [handshake({ service: 'peer', servedPin: OTHER_PIN })] }) }),
      [],
    ],
    [
      'are of one age',
      facts({ destination: side(0, { capabilities: testCapabilities({ qemuVersion: '7.1.9' }) }) }),
      ['warning version.older'],
    ],
    [
      'may be newer where the VM goes',
      facts({ destination: side(0, { capabilities: testCapabilities({ qemuVersion: '10.0.2' }) }) }),
      [],
    ],
    [
      'are seen from one side only where the other has no agent',
      facts({
        question: { from: managed('a'), to: UNMANAGED, mode: 'plain' },
        destination: null,
      }),
      ['note host.unseen'],
    ],
  ];
  for (const [title, given, expected] of cases)
    it(title, () => {
      const found = pairFindings(given);
      assert.deepEqual(
        found.map(({ severity, code }) => `${severity} ${code}`),
        expected,
      );
      assert.ok(found.every(({ what, fix }) => what !== '' && fix !== ''));
    });

  it('are kept apart by errors unless forced, by what is unsafe always', () => {
    const all = (['note', 'warning', 'error', 'unsafe'] as const).map((severity) => {
      return { code: 'a.b', severity, host: null, what: 'x', fix: 'y' };
    });
    const severities = (force?: boolean) => blocking(all, force).map(({ severity }) => severity);
    assert.deepEqual(severities(), ['error', 'unsafe']);
    assert.deepEqual(severities(true), ['unsafe']);
  });
});
