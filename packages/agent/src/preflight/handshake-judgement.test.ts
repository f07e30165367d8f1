import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { TrustError } from '@virt-trust/base/error.ts';
import { FindingList } from './finding-list.ts';
import { type Attempted, badHandshake, goodHandshake } from './handshake-judgement.ts';

const FORWARD: Attempted = {
  service: 'migration',
  from: 'a',
  to: 'b',
  target: '192.0.2.2:49200',
  verified: '192.0.2.2',
  isBack: false,
};

const probeError = (code: string, cause?: unknown) =>
  new TrustError(code, 'failed', `cannot probe 192.0.2.2 port 49200: it went wrong\u0007`, { cause });
const system = (code: string) => Object.assign(new Error(code), { code });
const peer = (code: string) => new TrustError(code, 'failed', 'cannot trust the peer: so');

describe('a handshake that failed', () => {
  const cases: readonly (readonly [
    title: string,
    error: unknown,
    code: string,
    severity: string,
    outcome: string,
  ])[] = [
    [
      'with nobody there',
      probeError('probe.connect', system('ECONNREFUSED')),
      'port.closed',
      'error',
      'unreachable',
    ],
    ['without an answer', probeError('probe.connect'), 'port.filtered', 'error', 'unreachable'],
    [
      'without a way',
      probeError('probe.connect', system('EHOSTUNREACH')),
      'network.unreachable',
      'error',
      'unreachable',
    ],
    [
      'over the name',
      probeError('probe.name', peer('peer.name_mismatch')),
      'name.mismatch',
      'error',
      'refused',
    ],
    [
      'over the end of time',
      probeError('probe.chain', peer('peer.expired')),
      'certificate.expired',
      'error',
      'refused',
    ],
    [
      'over the end of a CA',
      probeError('probe.chain', peer('chain.expired')),
      'certificate.expired',
      'error',
      'refused',
    ],
    [
      'over the beginning of time',
      probeError('probe.chain', peer('peer.not_yet_valid')),
      'certificate.not_yet_valid',
      'error',
      'refused',
    ],
    ['over a CRL', probeError('probe.chain', peer('peer.revoked')), 'crl.revoked', 'unsafe', 'refused'],
    [
      'over the purpose',
      probeError('probe.chain', peer('peer.purpose')),
      'certificate.purpose',
      'error',
      'refused',
    ],
    [
      'over trust',
      probeError('probe.chain', peer('chain.issuer_unknown')),
      'trust.untrusted',
      'error',
      'refused',
    ],
    ['over something else', probeError('probe.handshake'), 'handshake.failed', 'error', 'refused'],
    ["over QEMU's own rules", probeError('probe.qemu'), 'handshake.failed', 'error', 'refused'],
  ];
  for (const [title, error, code, severity, outcome] of cases) {
    it(`${title} is said so`, () => {
      const list = new FindingList('a');
      const seen = badHandshake(FORWARD, error, null, list);
      assert.equal(seen.outcome, outcome);
      assert.deepEqual(
        list.all.map((one) => [one.code, one.severity, one.host]),
        [[code, severity, 'b']],
      );
      assert.match(
        list.all[0]?.what ?? '',
        /^a cannot use QEMU's stream of b at 192\.0\.2\.2:49200 as 192\.0\.2\.2: /,
      );
      assert.ok(!JSON.stringify(list.all).includes('\\u0007') && list.all[0]?.fix !== '');
    });
    it(`${title} on the way back is a warning, where it is not unsafe`, () => {
      const list = new FindingList('b');
      badHandshake({ ...FORWARD, isBack: true }, error, null, list);
      assert.equal(list.all[0]?.severity, severity === 'unsafe' ? 'unsafe' : 'warning');
    });
  }

  it('is no finding where it was good', () => {
    assert.deepEqual(goodHandshake(FORWARD, null, 'well'), {
      service: 'migration',
      from: 'a',
      to: 'b',
      target: '192.0.2.2:49200',
      verified: '192.0.2.2',
      outcome: 'good',
      servedPin: null,
      serialNumber: null,
      notAfter: null,
      detail: 'well',
    });
  });
});
