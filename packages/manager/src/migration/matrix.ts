import { describeError, isTrustError } from '@virt-trust/base/error.ts';
import { inParallel } from '@virt-trust/base/in-parallel.ts';
import type { SubjectAltNames } from '@virt-trust/contract/model/desired-state.ts';
import type { MatrixPair, MigrationMatrix } from '@virt-trust/contract/model/migration-plan.ts';
import type { Finding } from '@virt-trust/contract/model/preflight.ts';
import type { CertificateSource } from '../hosts/ports.ts';
import { chosenAddresses, type PairAddresses } from './chosen-addresses.ts';
import type { MigrationContext } from './context.ts';
import { decideMigration } from './decision.ts';
import { factsOf, type HostFacts } from './facts.ts';
import { type HostStanding, hostStanding, standingFindings } from './host-standing.ts';
import type { MigrationEnd } from './migration-end.ts';
import { optionsFor } from './options.ts';
import { blocking, preflightOf } from './preflight.ts';

/** Pairs that are probed at once. */
const PROBES_AT_ONCE = 3;
/** So often other work has its turn. */
const TURN_PAIRS = 200;
const FINDINGS = 64;
const VM = 'a VM';

/** What is known of one host, read once for all its pairs. */
interface Known {
  readonly end: MigrationEnd;
  readonly facts: HostFacts;
  readonly standing: HostStanding;
}

/** A pair as it was judged, with what a probe of it needs. */
interface Judged {
  readonly source: Known;
  readonly destination: Known;
  readonly pair: MatrixPair;
  /** Of the decision. */
  readonly explanation: string;
  readonly addresses: PairAddresses | null;
}

type NameSource = Pick<CertificateSource, 'namesOf'>;

/** What a matrix needs of the manager. */
export type MatrixContext = Pick<
  MigrationContext,
  'settings' | 'revocations' | 'certificates' | 'clock' | 'channels' | 'settingsOf' | 'log'
>;

/**
 * How VMs would migrate between all hosts, each towards each other, from what they reported. With `probe` the agents of
 * each pair that is not refused make the handshakes, too.
 */
export async function matrixOf(
  ends: readonly MigrationEnd[],
  context: MatrixContext,
  { probe, signal }: { readonly probe: boolean; readonly signal: AbortSignal },
): Promise<MigrationMatrix> {
  const certificates = remembering(context.certificates);
  const known = await Promise.all(ends.map((end) => knownOf(end, context, certificates)));
  const judged: Judged[] = [];
  for (const source of known)
    for (const destination of known) {
      if (source === destination) continue;
      judged.push(await judge(source, destination, certificates));
      if (judged.length % TURN_PAIRS !== 0) continue;
      signal.throwIfAborted();
      await new Promise((resolve) => setImmediate(resolve));
    }
  const pairs = probe
    ? await inParallel(judged, PROBES_AT_ONCE, (one) => probed(one, context, signal))
    : judged.map(({ pair }) => pair);
  return { hosts: ends.map(({ name }) => name), pairs, probed: probe };
}

async function knownOf(end: MigrationEnd, context: MatrixContext, certificates: NameSource): Promise<Known> {
  const isUp = end.kind !== 'unmanaged' && context.channels.stateOf(end.host.id)?.kind === 'up';
  const [facts, standing] = await Promise.all([
    factsOf(end, context),
    hostStanding(end, { now: context.clock.now(), certificates, isUp }),
  ]);
  return { end, facts, standing };
}

async function judge(source: Known, destination: Known, certificates: NameSource): Promise<Judged> {
  const names = { from: source.end.name, to: destination.end.name };
  let both: Readonly<Record<'tls' | 'plain', PairAddresses>>;
  try {
    both = await chosenAddresses(VM, source.end, destination.end, certificates);
  } catch (error) {
    if (!isTrustError(error)) throw error;
    const finding: Finding = {
      code: 'network.no_way',
      severity: 'error',
      host: null,
      what: error.message,
      fix: error.hint ?? `see the addresses of both: virt-trust interface list ${names.from}`,
    };
    const pair = { ...names, mode: null, ready: false, detail: error.message, findings: [finding] };
    return { source, destination, addresses: null, pair, explanation: error.message };
  }
  const conducted = source.facts.kind === 'managed' ? 'libvirtAddress' : 'sourceAddress';
  const decision = decideMigration({
    vm: VM,
    source: source.facts,
    destination: destination.facts,
    requested: null,
    addresses: { tls: both.tls[conducted], plain: both.plain[conducted] },
  });
  const addresses = decision.mode === 'plain' ? both.plain : both.tls;
  const findings = standingFindings(decision.mode, source.standing, destination.standing, addresses);
  for (const what of decision.warnings)
    findings.push({
      code: 'mode.plain',
      severity: 'warning',
      ...plainWith(what, source.end, destination.end),
      fix: decision.hint ?? plainFix(source.end, destination.end),
    });
  if (decision.mode === null)
    findings.unshift({
      code: 'mode.none',
      severity: 'error',
      host: null,
      what: decision.explanation.slice(0, 8000),
      fix: decision.hint ?? `see what they can do: virt-trust host list`,
    });
  const pair = {
    ...names,
    mode: decision.mode,
    ...conclusion(decision.mode, decision.explanation, findings),
  };
  return { source, destination, addresses, pair, explanation: decision.explanation };
}

/** Said of the one host that nothing secures, so that it is the same for all its pairs; else as it is. */
function plainWith(what: string, ...ends: readonly MigrationEnd[]): Pick<Finding, 'host' | 'what'> {
  const [foreign, another] = ends.filter(({ kind }) => kind !== 'managed');
  if (foreign === undefined || another !== undefined) return { host: null, what };
  const { name, kind } = foreign;
  const why = kind === 'unmanaged' ? 'has no agent' : 'has an agent that only looks';
  return {
    host: name,
    what: `a VM from or to ${name}, which ${why}, crosses the network in the clear: whoever is on the way reads and changes its memory and copied disks`,
  };
}

/** What would have VMs pass between the two in a safe mode. */
function plainFix(...ends: readonly MigrationEnd[]): string {
  const foreign = ends.find(({ kind }) => kind !== 'managed');
  if (foreign === undefined)
    return `bring both hosts to TLS: virt-trust host provision ${ends.map(({ name }) => name).join(' ')}`;
  const { name } = foreign;
  const steps =
    foreign.kind === 'unmanaged'
      ? `virt-trust host remove ${name} && virt-trust host add ${name} --ssh root@${foreign.host.address}`
      : `virt-trust host add ${name} --ssh USER@ADDRESS`;
  return `take ${name} under management: ${steps}`;
}

function conclusion(
  mode: MatrixPair['mode'],
  explanation: string,
  findings: readonly Finding[],
): Pick<MatrixPair, 'ready' | 'detail' | 'findings'> {
  const against = blocking(findings);
  return {
    ready: mode !== null && against.length === 0,
    detail: (against[0]?.what ?? explanation).slice(0, 8000),
    findings: findings.slice(0, FINDINGS),
  };
}

/** What a probe finds out by itself, of which the reports may be old. */
const SEEN_ANEW: ReadonlySet<string> = new Set([
  'agent.unreachable',
  'certificate.expired',
  'crl.stale',
  'host.same_uuid',
  'libvirt.down',
  'name.mismatch',
  'served.other',
  'version.older',
]);

/** What both agents find out of each other by real handshakes, added to what they reported. */
async function probed(
  { source, destination, addresses, pair, explanation }: Judged,
  context: MatrixContext,
  signal: AbortSignal,
) {
  if (pair.mode === null || addresses === null) return pair;
  signal.throwIfAborted();
  const { end } = source;
  try {
    const answer = await preflightOf(
      {
        vm: null,
        mode: pair.mode,
        from: end,
        to: destination.end,
        addresses,
        options: await optionsFor({}, { name: end.name, cluster: end.host.cluster }, context.settings),
        handshakes: true,
      },
      context,
      signal,
    );
    // What was seen now stands in for what was seen some time ago.
    const wasAsked = [answer.source ?? end.kind, answer.destination ?? destination.end.kind].every(
      (side) => side === 'unmanaged' || typeof side === 'object',
    );
    const before = wasAsked ? pair.findings.filter(({ code }) => !SEEN_ANEW.has(code)) : pair.findings;
    return { ...pair, ...conclusion(pair.mode, explanation, [...before, ...answer.findings]) };
  } catch (error) {
    if (signal.aborted) throw error;
    const finding: Finding = {
      code: 'handshake.failed',
      severity: 'error',
      host: null,
      what: `${pair.from} and ${pair.to} were not probed: ${describeError(error)}`.slice(0, 8000),
      fix: isTrustError(error) ? (error.hint ?? 'ask again') : 'ask again',
    };
    return { ...pair, ...conclusion(pair.mode, pair.detail, [...pair.findings, finding]) };
  }
}

/** Each certificate is read once, of however many pairs its host is one. */
function remembering({ namesOf }: NameSource): NameSource {
  const known = new Map<string, Promise<SubjectAltNames | null>>();
  return {
    namesOf(serialNumber) {
      const names = known.get(serialNumber) ?? namesOf(serialNumber);
      known.set(serialNumber, names);
      return names;
    },
  };
}
