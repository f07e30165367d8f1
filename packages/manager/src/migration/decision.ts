import { MIGRATION_MODES, type MigrationMode } from '@virt-trust/contract/model/migration-options.ts';
import type { MigrationDecision } from '@virt-trust/contract/model/migration-plan.ts';
import type { HostFacts } from './facts.ts';
import { type Obstacle, obstaclesOf } from './obstacles.ts';

/** What a mode is decided from, and nothing else. */
export interface MigrationCase {
  readonly vm: string;
  readonly source: HostFacts;
  readonly destination: HostFacts;
  /** The order that whoever asks gave; null where the settings have it. */
  readonly requested: readonly MigrationMode[] | null;
  /** Where libvirt of the other host is reached from whoever conducts. */
  readonly addresses: Readonly<Record<'tls' | 'plain', string>>;
}

/**
 * Decides how a VM migrates between two hosts: of the modes that were asked for, in their order, the first that the
 * settings of both hosts allow and both hosts can. Pure; each answer says why, of every mode.
 */
export function decideMigration(question: MigrationCase): MigrationDecision {
  const { source, requested } = question;
  const order = [...new Set(requested ?? source.modes.value)];
  const inOrder = [...order, ...MIGRATION_MODES.filter((mode) => !order.includes(mode))];
  const judged = inOrder.map((mode) => ({ mode, obstacles: against(mode, order, question) }));
  const chosen = judged.find(({ obstacles }) => obstacles.length === 0)?.mode ?? null;
  const common = {
    order,
    orderFrom:
      requested === null ? `setting migration.mode of ${source.name} (${source.modes.from})` : 'request',
    verdicts: judged.map(({ mode, obstacles }) => ({
      mode,
      feasible: obstacles.length === 0,
      reasons:
        obstacles.length === 0 ? inFavour(mode, question) : obstacles.map(({ why }) => why).slice(0, 32),
    })),
  };
  const passedOver = judged.slice(
    0,
    chosen === null ? order.length : judged.findIndex(({ mode }) => mode === chosen),
  );
  const why = passedOver.map(
    ({ mode, obstacles }) => `${mode}: ${obstacles.map((one) => one.why).join(', ')}`,
  );
  return chosen === null
    ? refused(question, common, passedOver[0]?.obstacles ?? [], why)
    : decided(question, common, chosen, why);
}

type Common = Pick<MigrationDecision, 'order' | 'orderFrom' | 'verdicts'>;

function decided(
  question: MigrationCase,
  common: Common,
  mode: MigrationMode,
  passedOver: readonly string[],
): MigrationDecision {
  const { vm, source, destination } = question;
  const uri = uriOf(mode, question);
  const instead = passedOver.length === 0 ? '' : `; passed over: ${passedOver.join('; ')}`;
  return {
    ...common,
    mode,
    uri,
    conductor: conductorOf(source, destination),
    warnings: mode === 'plain' ? [plainWarning(question, passedOver)] : [],
    explanation: `${vm} migrates from ${source.name} to ${destination.name} in mode ${mode} over ${uri}: ${inFavour(mode, question).join(', ')}${instead}`,
    hint: null,
  };
}

function refused(
  { vm, source, destination }: MigrationCase,
  common: Common,
  first: readonly Obstacle[],
  why: readonly string[],
): MigrationDecision {
  return {
    ...common,
    mode: null,
    uri: null,
    conductor: null,
    warnings: [],
    explanation: `cannot migrate ${vm} from ${source.name} to ${destination.name}: no mode is feasible: ${why.join('; ') || 'none was asked for'}`,
    hint: first[0]?.hint ?? `see: virt-trust host show ${source.name}`,
  };
}

/** Why a mode cannot be taken; empty where it can. */
function against(mode: MigrationMode, order: readonly MigrationMode[], question: MigrationCase): Obstacle[] {
  const { source, destination, requested } = question;
  if (!order.includes(mode) && requested !== null)
    return [{ why: 'it was not asked for', hint: `ask for it: --mode ${mode}` }];
  // SECURITY: a mode that the administrators of either host left out is not taken, whatever is asked for.
  const leftOut = [source, destination].flatMap(({ name, modes }) =>
    modes.value.includes(mode)
      ? []
      : [
          {
            why: `the setting migration.mode of ${name} (${modes.from}) leaves it out`,
            hint: `see who says so: virt-trust setting get migration.mode --host ${name}`,
          },
        ],
  );
  return leftOut.length > 0 ? leftOut : obstaclesOf(mode, source, destination, question.addresses);
}

function inFavour(mode: MigrationMode, { source, destination }: MigrationCase): string[] {
  switch (mode) {
    case 'tls':
      return [`libvirt and QEMU have TLS with proven certificates on ${source.name} and ${destination.name}`];
    case 'pinned':
      return [`${source.name} and ${destination.name} have agents that carry it between them`];
    case 'plain': {
      const remote = conductorOf(source, destination) === 'source' ? destination : source;
      return [
        remote.capabilities === null
          ? `${remote.name} has no agent that could say whether its libvirt listens for plain TCP: that shows when it is tried`
          : `libvirt of ${remote.name} listens for plain TCP on port ${remote.capabilities.libvirtTcp?.port ?? 0}`,
      ];
    }
  }
}

/** Whose agent conducts: the source's, or the destination's where the source has none that takes part. */
function conductorOf(source: HostFacts, destination: HostFacts): 'source' | 'destination' | null {
  if (source.kind === 'managed') return 'source';
  return destination.kind === 'managed' ? 'destination' : null;
}

function uriOf(mode: MigrationMode, { destination, addresses }: MigrationCase): string {
  const inUri = (address: string) => (address.includes(':') ? `[${address}]` : address);
  switch (mode) {
    case 'tls':
      return `qemu+tls://${inUri(addresses.tls)}/system`;
    case 'pinned':
      return `pinned://${destination.name}`;
    case 'plain':
      return `qemu+tcp://${inUri(addresses.plain)}/system`;
  }
}

function plainWarning({ vm, source, destination }: MigrationCase, passedOver: readonly string[]): string {
  const why = passedOver.length === 0 ? 'plain is what was asked for first' : passedOver.join('; ');
  return `${vm} crosses the network from ${source.name} to ${destination.name} in the clear: whoever is on the way reads and changes its memory and copied disks (${why})`;
}
