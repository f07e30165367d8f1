import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DAY, HOUR, type Instant, instant, MINUTE } from '@virt-trust/base/instant.ts';
import type { ServedEndpoint } from '@virt-trust/contract/model/observed-state.ts';
import { SERVICES } from '@virt-trust/contract/model/service.ts';
import fc from 'fast-check';
import { conditionsOf } from './host-conditions.ts';
import type { CredentialFact, HostFacts } from './host-facts.ts';

const NOW = instant(1_800_000_000_000);
const PIN = `sha256:${'A'.repeat(43)}`;

function facts(more: Partial<HostFacts> = {}): HostFacts {
  return {
    name: 'host-a',
    cluster: 'default',
    state: 'secured',
    reason: null,
    revoked: false,
    observeOnly: false,
    credentials: SERVICES.map((service) => credential({ service })),
    served: [],
    crls: [],
    rescues: [],
    failure: null,
    refused: [],
    channel: { kind: 'up' },
    outside: null,
    thresholds: {
      expiry: {
        warning: { before: 21 * DAY, percent: 25 },
        critical: { before: 7 * DAY, percent: 10 },
      },
      unreachableAfter: 5 * MINUTE,
      driftAfter: MINUTE / 2,
    },
    ...more,
  };
}

function credential(more: Partial<CredentialFact> = {}): CredentialFact {
  return {
    service: 'libvirt',
    identity: 'ours',
    serialNumber: '0a1b',
    issuedAt: instant(NOW - 10 * DAY),
    notAfter: instant(NOW + 170 * DAY),
    failure: null,
    ...more,
  };
}

function endpoint(more: Partial<ServedEndpoint> = {}): ServedEndpoint {
  return {
    service: 'vnc',
    target: 'VM guest 127.0.0.1:5900',
    vm: 'guest',
    expectedPin: PIN,
    servedPin: null,
    state: 'drifted',
    detail: 'another certificate',
    action: '',
    since: NOW - HOUR,
    at: NOW,
    ...more,
  };
}

const said = (given: HostFacts, now: Instant = NOW) =>
  conditionsOf(given, now).conditions.map(
    ({ kind, severity, subject, undecided }) =>
      `${undecided === true ? 'perhaps ' : ''}${severity} ${kind}: ${subject}`,
  );

test('of a host where all is well nothing is said, and it is looked at again when its first certificate is near its end', () => {
  const { conditions, next } = conditionsOf(facts(), NOW);
  assert.deepEqual(conditions, []);
  assert.equal(next, NOW + 170 * DAY - 21 * DAY);
});

test('a certificate is a warning, then critical, by the shorter of days and percent of its lifetime', () => {
  const ending = (issuedAt: Instant | null, left: number) =>
    said(facts({ credentials: [credential({ issuedAt, notAfter: instant(NOW + left) })] }));
  const half = instant(NOW - 90 * DAY);
  assert.deepEqual(ending(half, 22 * DAY), []);
  assert.deepEqual(ending(half, 20 * DAY), ['warning certificate-expiry: libvirt of host host-a']);
  assert.deepEqual(ending(half, 6 * DAY), ['critical certificate-expiry: libvirt of host host-a']);
  // Five minutes long: a day of it is never left.
  assert.deepEqual(ending(instant(NOW - MINUTE), 4 * MINUTE), []);
  assert.deepEqual(ending(instant(NOW - 4 * MINUTE), MINUTE), [
    'warning certificate-expiry: libvirt of host host-a',
  ]);
  // Found on the host: nobody knows when it was made.
  assert.deepEqual(ending(null, 20 * DAY), ['warning certificate-expiry: libvirt of host host-a']);
});

test('an expired certificate of a host that is down is told, with what brings it back', () => {
  const down = facts({
    channel: { kind: 'down', since: instant(NOW - HOUR), reason: 'no answer' },
    credentials: [credential({ notAfter: instant(NOW - HOUR) })],
  });
  const [unreachable, expired] = conditionsOf(down, NOW).conditions;
  assert.equal(unreachable?.kind, 'host-unreachable');
  assert.match(expired?.message ?? '', /libvirt certificate of host host-a .* expired at 2027/);
  assert.match(expired?.action ?? '', /bring host host-a up/);
  const up = conditionsOf({ ...down, channel: { kind: 'up' } }, NOW).conditions[0];
  assert.equal(up?.action, 'virt-trust certificate renew host-a libvirt');
});

test('a host is unreachable after the set time alone; until then, and before the first dial ended, nobody can tell', () => {
  const away = (since: number) =>
    facts({ channel: { kind: 'down', since: instant(since), reason: 'refused' } });
  assert.deepEqual(said(away(NOW - 4 * MINUTE)), ['perhaps critical host-unreachable: host host-a']);
  assert.equal(conditionsOf(away(NOW - 4 * MINUTE), NOW).next, NOW + MINUTE);
  assert.deepEqual(said(away(NOW - 5 * MINUTE)), ['critical host-unreachable: host host-a']);
  assert.deepEqual(said(facts({ channel: { kind: 'unknown' } })), [
    'perhaps critical host-unreachable: host host-a',
  ]);
});

test('what is served otherwise is told once it lasts, from inside and outside as one, and names a few of many places', () => {
  assert.deepEqual(said(facts({ served: [endpoint({ since: NOW - 1 })] })), [
    'perhaps critical drift: vnc of host host-a',
  ]);
  const many = Array.from({ length: 9 }, (_, index) => endpoint({ target: `VM guest${index}` }));
  const [drift] = conditionsOf(facts({ served: many }), NOW).conditions;
  assert.match(drift?.message ?? '', /guest4: another certificate; and 4 more/);
  const outside = {
    state: 'unreachable',
    detail: '192.0.2.1:16514: refused',
    agentAnswered: true,
    since: instant(NOW - HOUR),
    at: NOW,
  } as const;
  const libvirt = endpoint({ service: 'libvirt', target: '192.0.2.1:16514', state: 'unreachable' });
  const both = conditionsOf(facts({ served: [libvirt], outside }), NOW).conditions;
  assert.equal(both.length, 1);
  assert.match(both[0]?.message ?? '', /seen by the manager: 192\.0\.2\.1:16514: refused/);
  assert.match(both[0]?.action ?? '', /systemctl status libvirtd/);
  for (const state of ['unreachable', 'refused'] as const) {
    const cut = { ...outside, state, agentAnswered: false };
    assert.deepEqual(said(facts({ outside: cut })), ['perhaps critical drift: libvirt of host host-a']);
  }
});

test('while a job works on a host, and while it is away, what was seen served decides nothing', () => {
  const served = [endpoint()];
  for (const state of ['provisioning', 'enrolling'] as const)
    assert.deepEqual(said(facts({ state, served })), ['perhaps critical drift: vnc of host host-a']);
  assert.deepEqual(said(facts({ served, channel: { kind: 'unknown' } })).slice(1), [
    'perhaps critical drift: vnc of host host-a',
  ]);
  assert.deepEqual(said(facts({ state: 'removing', served })), []);
});

test('VMs that must be restarted are a warning with that action; what is changed back again and again is critical', () => {
  const served = [
    endpoint({ service: 'spice', state: 'needs-restart', action: 'restart VM guest' }),
    endpoint({ service: 'libvirt', state: 'contested' }),
  ];
  const { conditions } = conditionsOf(facts({ served }), NOW);
  assert.deepEqual(
    conditions.map(({ kind, severity, action }) => [kind, severity, action.slice(0, 16)]),
    [
      ['contested', 'critical', 'find what else m'],
      ['drift', 'warning', 'restart VM guest'],
    ],
  );
});

test('a host that was revoked is not to be provisioned before somebody trusts it again', () => {
  const { conditions } = conditionsOf(facts({ state: 'failed', reason: 'revoked', revoked: true }), NOW);
  assert.deepEqual(
    conditions.map(({ kind, message }) => [kind, message]),
    [['host-failed', 'host host-a gets no certificates: revoked']],
  );
  assert.match(conditions[0]?.action ?? '', /once it is trustworthy: virt-trust host provision host-a/);
});

test('a rescue, a failure and a CRL that gets old are told', () => {
  const given = facts({
    state: 'failed',
    reason: 'cannot secure vnc on host host-a',
    rescues: [{ service: 'vnc', reason: 'expired while the host was off', at: NOW - HOUR }],
    crls: [
      {
        purpose: 'migration',
        issuer: 'CN=x',
        number: '2a',
        thisUpdate: NOW - 8 * DAY,
        nextUpdate: NOW + DAY,
        entries: 1,
        installedAt: NOW,
        failure: null,
      },
    ],
  });
  assert.deepEqual(said(given), [
    'critical host-failed: host host-a',
    'critical rescue: vnc of host host-a',
    'warning crl-stale: CRL for migration on host host-a',
  ]);
  assert.deepEqual(
    said(given, instant(NOW + 2 * DAY)).at(-1),
    'critical crl-stale: CRL for migration on host host-a',
  );
});

test('between now and the time that is given nothing changes by itself', () => {
  const times = fc.integer({ min: -40 * DAY, max: 40 * DAY });
  fc.assert(
    fc.property(
      times,
      times,
      times,
      fc.double({ min: 0, max: 0.999, noNaN: true }),
      (ends, away, drifts, part) => {
        const given = facts({
          credentials: [credential({ notAfter: instant(NOW + ends), issuedAt: instant(NOW - 90 * DAY) })],
          channel: { kind: 'down', since: instant(NOW + away), reason: '' },
          served: [endpoint({ since: NOW + drifts })],
        });
        const { next } = conditionsOf(given, NOW);
        const limit = Number.isFinite(next) ? next : NOW + 1000 * DAY;
        const later = instant(Math.floor(NOW + (limit - NOW) * part));
        assert.deepEqual(said(given, later), said(given));
        if (Number.isFinite(next)) assert.ok(next > NOW);
      },
    ),
  );
});

const refusal = (name: string, rule: string) => ({
  name,
  interface: 'eth2',
  rule,
  reason: `because of ${rule}`,
  hint: `mend ${name}`,
});

test('an address that another host has is an alarm of its own, everything else that is refused of a host one together', () => {
  const refused = [
    refusal('10.0.0.5', 'interface.address_conflict'),
    { ...refusal('kvm2.example', 'interface.name_conflict'), interface: null },
    ...Array.from({ length: 9 }, (_, index) => refusal(`10.9.9.${index}`, 'interface.outside_subnets')),
  ];
  const { conditions } = conditionsOf(facts({ refused }), NOW);
  assert.deepEqual(
    conditions.map(({ kind, severity, subject }) => [kind, severity, subject]),
    [
      ['address-conflict', 'critical', '10.0.0.5 of host host-a'],
      ['address-conflict', 'critical', 'kvm2.example of host host-a'],
      ['address-refused', 'warning', 'names of host host-a'],
    ],
  );
  assert.match(conditions[0]?.message ?? '', /10\.0\.0\.5 on eth2: because of/);
  assert.match(conditions[2]?.message ?? '', /10\.9\.9\.0 on eth2.*and 4 more$/);
  assert.equal(conditions[2]?.action, 'mend 10.9.9.0');
});

test('a host that claims the addresses of all others has a bounded number of alarms', () => {
  const refused = Array.from({ length: 128 }, (_, index) =>
    refusal(`10.0.0.${index}`, 'interface.address_conflict'),
  );
  assert.equal(conditionsOf(facts({ refused }), NOW).conditions.length, 16);
});
