import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TrustError } from '@virt-trust/base/error.ts';
import { instant } from '@virt-trust/base/instant.ts';
import { awayOf } from './away.ts';
import { testHost } from './fixtures.ts';

function away(code: string, errno?: string, since: number | null = null) {
  const cause =
    errno === undefined ? undefined : Object.assign(new Error(`connect ${errno}`), { code: errno });
  const message = 'cannot reach the agent at 192.0.2.11 port 16515: its key sha256:AAAA is not trusted';
  const reason = new TrustError(code, 'unavailable', message, { cause });
  const state = { kind: 'down', reason, retryInMs: 0 } as const;
  return awayOf(testHost('kvm1'), state, since === null ? null : instant(since));
}

test('why a host is away is said without addresses, ports, keys and errno, for each reason that a channel has', () => {
  for (const [code, errno, why] of [
    ['channel.timeout', undefined, /^its agent does not answer$/],
    ['channel.unreachable', 'ECONNREFUSED', /^the machine answers, but no agent listens there$/],
    ['channel.unreachable', 'EHOSTUNREACH', /^nothing on the network leads to it$/],
    ['channel.unreachable', 'ECONNRESET', /^its agent does not answer$/],
    ['channel.handshake', 'EPROTO', /^what answers in place of its agent/],
    ['channel.silent', undefined, /^the connection to its agent broke$/],
    ['channel.peer_untrusted', undefined, /do not know each other's keys$/],
    ['channel.peer_refused', undefined, /do not know each other's keys$/],
    ['channel.new_one', undefined, /^its agent does not answer$/],
  ] as const) {
    const said = away(code, errno);
    assert.match(said.why, why);
    assert.doesNotMatch(said.why, /16515|sha256|192\.0|E[A-Z]{4}/);
  }
});

test('since when is said where it is known, and what is to be looked at names the host', () => {
  const { why, look } = away('channel.timeout', undefined, Date.parse('2026-11-22T17:50:00.793Z'));
  assert.equal(why, 'its agent does not answer (away since 2026-11-22T17:50:00Z)');
  assert.match(look, /^see that host kvm1 runs.*TCP 16515\)$/);
  assert.match(
    away('channel.unreachable', 'ECONNREFUSED').look,
    /^on kvm1: systemctl status virt-trust-agent/,
  );
  assert.match(away('channel.peer_refused').look, /virt-trust host add kvm1 --ssh root@kvm1$/);
});
