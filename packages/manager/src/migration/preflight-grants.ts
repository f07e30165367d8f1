import { describeError, isTrustError } from '@virt-trust/base/error.ts';
import { instant, MINUTE } from '@virt-trust/base/instant.ts';
import { deleteGrant, putGrant } from '@virt-trust/contract/agent/grant-operations.ts';
import { getStatus } from '@virt-trust/contract/agent/operations.ts';
import type { Grant } from '@virt-trust/contract/model/grant.ts';
import type { Finding } from '@virt-trust/contract/model/preflight.ts';
import type { Host } from '../hosts/host.ts';
import { grantPeerOf } from './grant-peer.ts';
import type { PreflightContext, PreflightQuestion } from './preflight-question.ts';

/** Of a grant for a preflight; what is left over by a manager that died is gone then. */
const GRANT_MS = 3 * MINUTE;
const PUT_MS = 20_000;
const CHANNEL_WAIT_MS = 5_000;

interface Granted {
  /** Whether each of the two agents has a grant for the other. */
  readonly both: boolean;
  readonly findings: readonly Finding[];
}

/** Works while both agents have a short grant to be asked by the other, and takes the grants back, whatever happens. */
export async function withPreflightGrants<T>(
  { id, question }: { readonly id: string; readonly question: PreflightQuestion },
  context: PreflightContext,
  signal: AbortSignal,
  work: (granted: Granted) => Promise<T>,
): Promise<T> {
  const { from, to } = question;
  if (from.kind !== 'managed' || to.kind !== 'managed') return await work({ both: false, findings: [] });
  const sides = [
    { role: 'source', own: from.host, peer: to.host },
    { role: 'destination', own: to.host, peer: from.host },
  ] as const;
  try {
    const findings = (
      await Promise.all(
        sides.map(({ role, own, peer }) =>
          whyNotAsked(own.name, async () => {
            const channel = await context.channels.of(own);
            await channel.waitUntilUp(signal, CHANNEL_WAIT_MS);
            const limit = AbortSignal.any([signal, AbortSignal.timeout(PUT_MS)]);
            // By the host's own clock, by which it will count.
            const { now } = await channel.agent.call(getStatus, {}, { signal: limit });
            const body = grantFor({ id, role, peer, question, notAfter: now + GRANT_MS });
            await channel.agent.call(putGrant, { params: { id }, body }, { signal: limit });
          }),
        ),
      )
    ).flat();
    return await work({ both: findings.length === 0, findings });
  } finally {
    await Promise.all(sides.map(({ own }) => takeBack(id, own, context)));
  }
}

/** Asks an agent; why that did not work, as a finding. */
export async function whyNotAsked(host: string, ask: () => Promise<void>): Promise<Finding[]> {
  try {
    await ask();
    return [];
  } catch (error) {
    const isAway =
      isTrustError(error) && (error.category === 'unavailable' || error.code.startsWith('channel.'));
    const away = isTrustError(error, 'host.channel_down') ? error : null;
    const finding: Finding = {
      code: isAway ? 'agent.unreachable' : 'agent.refused',
      severity: 'error',
      host,
      what: (away === null
        ? `the agent on ${host} was not asked: ${describeError(error)}`
        : `host ${host} is away: ${away.context['why']}`
      ).slice(0, 8000),
      fix: isAway
        ? (away?.hint ??
          `see that the agent runs (systemctl status virt-trust-agent) and is reached: virt-trust host show ${host}`)
        : `see what the agent says (journalctl -u virt-trust-agent); an older one is renewed by virt-trust host add ${host}`,
    };
    return [finding];
  }
}

/** What one host is told of the other; the peer comes from any address that is known of it. */
function grantFor({
  id,
  role,
  peer,
  question,
  notAfter,
}: {
  readonly id: string;
  readonly role: Grant['role'];
  readonly peer: Host;
  readonly question: PreflightQuestion;
  readonly notAfter: number;
}): Grant {
  const first = role === 'source' ? [question.addresses.migrationAddress] : [];
  return {
    id,
    role,
    mode: question.mode,
    operations: ['preflight', 'status'],
    peer: grantPeerOf(peer, first),
    vm: null,
    flags: 0,
    streams: 1,
    notAfter: instant(notAfter),
  };
}

async function takeBack(id: string, host: Host, { channels, log }: PreflightContext): Promise<void> {
  try {
    const channel = await channels.of(host);
    if (channel.state.kind !== 'up') return;
    const signal = AbortSignal.timeout(PUT_MS);
    await channel.agent.call(deleteGrant, { params: { id } }, { signal });
  } catch (error) {
    log.warn(
      { host: host.name, grant: id, reason: describeError(error) },
      'grant of a preflight left to its end',
    );
  }
}
