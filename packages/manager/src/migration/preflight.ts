import { randomUUID } from 'node:crypto';
import { createPreflight } from '@virt-trust/contract/agent/grant-operations.ts';
import type {
  Finding,
  PreflightHandshake,
  PreflightOrder,
  PreflightReport,
} from '@virt-trust/contract/model/preflight.ts';
import { LIBVIRT_TCP_PORT, LIBVIRT_TLS_PORT } from '@virt-trust/libvirt/layout.ts';
import { MIGRATION_CLIENT_PREFIX } from '../hosts/client-dns.ts';
import { controlTrustOf } from './control-trust.ts';
import type { MigrationEnd } from './migration-end.ts';
import { pairFindings, type SideAnswer } from './pair-findings.ts';
import { whyNotAsked, withPreflightGrants } from './preflight-grants.ts';
import type { PreflightContext, PreflightQuestion } from './preflight-question.ts';
import { sourceAddressOf } from './source-address.ts';

/** What both agents found out, and what follows from their answers together. */
export interface PreflightAnswer {
  readonly findings: readonly Finding[];
  readonly handshakes: readonly PreflightHandshake[];
  /** Null where that side has no agent. */
  readonly source: PreflightReport | null;
  readonly destination: PreflightReport | null;
}

const CHANNEL_WAIT_MS = 5_000;
/** How long one agent's checks may take, handshakes included. */
const CHECK_MS = 60_000;

/**
 * Checks a pair, and a VM's way between them, on both hosts: each looks at its own side and makes handshakes with the
 * other. Changes nothing, and gives no permission that outlives it. What keeps an agent from answering is a finding.
 * With the id of one that was cut off with its manager, what that left of permissions goes with this one's.
 */
export async function preflightOf(
  question: PreflightQuestion,
  context: PreflightContext,
  signal: AbortSignal,
  id: string = randomUUID(),
): Promise<PreflightAnswer> {
  const { from, to } = question;
  const limit = AbortSignal.any([signal, AbortSignal.timeout(2 * CHECK_MS)]);
  return await withPreflightGrants({ id, question }, context, limit, async (granted) => {
    const order = await orderOf(id, question, granted.both, context);
    const { allowedSkewSeconds } = await context.settingsOf(from.host);
    const source = await ask(from, { ...order, ...namesOf(from, to), role: 'source' }, context, limit);
    const vm = source.answer?.report.vm ?? null;
    const asDestination: PreflightOrder = {
      ...order,
      ...namesOf(to, from),
      role: 'destination',
      // A VM that its source does not have was found missing once.
      vm: source.answer !== null && vm === null ? null : order.vm,
      vmXml: vm?.xml ?? null,
      disks: vm?.disks ?? [],
    };
    const destination = await ask(to, asDestination, context, limit);
    const findings = [
      ...granted.findings,
      ...source.findings,
      ...destination.findings,
      ...pairFindings({
        question,
        source: source.answer,
        destination: destination.answer,
        revocations: context.revocations,
        allowedSkewSeconds,
      }),
    ];
    return {
      findings: withoutRepetition(withoutStart(findings)),
      handshakes: [source, destination].flatMap(({ answer }) => answer?.report.handshakes ?? []),
      source: source.answer?.report ?? null,
      destination: destination.answer?.report ?? null,
    };
  });
}

/** The findings that keep a migration from being begun; what makes it unsafe does whatever is forced. */
export function blocking(findings: readonly Finding[], force = false): Finding[] {
  return findings.filter(({ severity }) => severity === 'unsafe' || (severity === 'error' && !force));
}

function namesOf(own: MigrationEnd, peer: MigrationEnd): Pick<PreflightOrder, 'own' | 'peer'> {
  return { own: own.name, peer: peer.name };
}

async function orderOf(
  id: string,
  { vm, mode, from, to, addresses, options, handshakes }: PreflightQuestion,
  hasPeerAgent: boolean,
  { certificates, revocations, settingsOf }: PreflightContext,
): Promise<Omit<PreflightOrder, 'own' | 'peer' | 'role'>> {
  const overTls = mode === 'tls' && from.kind === 'managed' && to.kind === 'managed';
  return {
    id,
    mode,
    hasPeerAgent,
    destination: {
      libvirtAddress: addresses.libvirtAddress,
      libvirtPort: mode === 'plain' ? LIBVIRT_TCP_PORT : LIBVIRT_TLS_PORT,
      streamAddress: addresses.migrationAddress,
      tlsDestination: addresses.tlsDestination,
    },
    sourceAddress: sourceAddressOf(from, addresses.migrationAddress),
    controlBundle: overTls ? await controlTrustOf(to.host, certificates) : null,
    controlCrl: overTls ? await revocations.crlForHosts('control') : null,
    clientDn: overTls
      ? `O=${(await settingsOf(from.host)).organization},CN=${MIGRATION_CLIENT_PREFIX}${id}`
      : null,
    handshakes,
    vm,
    vmXml: null,
    disks: [],
    options,
  };
}

async function ask(
  side: MigrationEnd,
  order: PreflightOrder,
  { channels, clock }: PreflightContext,
  signal: AbortSignal,
): Promise<{ answer: SideAnswer | null; findings: readonly Finding[] }> {
  // An agent that only looks takes part as little as none: it would take itself for the one that conducts.
  if (side.kind !== 'managed') return { answer: null, findings: [] };
  let answer: SideAnswer | null = null;
  const failed = await whyNotAsked(side.name, async () => {
    const channel = await channels.of(side.host);
    await channel.waitUntilUp(signal, CHANNEL_WAIT_MS);
    const limit = AbortSignal.any([signal, AbortSignal.timeout(CHECK_MS)]);
    const report = await channel.agent.call(createPreflight, { body: order }, { signal: limit });
    // It read its clock last of all.
    answer = { report, aheadMs: report.now - clock.now() };
  });
  return { answer, findings: [...failed, ...((answer as SideAnswer | null)?.report.findings ?? [])] };
}

/** Nobody is told to start a VM on its source that runs at the destination: that it is off there is as it should be. */
function withoutStart(findings: readonly Finding[]): readonly Finding[] {
  const isThere = findings.some(({ code }) => code === 'vm.already_there');
  return isThere ? findings.filter(({ code }) => code !== 'vm.not_running') : findings;
}

/** Both sides may see the same thing wrong. */
function withoutRepetition(findings: readonly Finding[]): Finding[] {
  const seen = new Set<string>();
  return findings.filter(({ code, host, what }) => {
    const key = JSON.stringify([code, host, what]);
    return !seen.has(key) && seen.add(key);
  });
}
