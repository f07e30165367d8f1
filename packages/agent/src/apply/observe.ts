import type { DesiredSettings, DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import type {
  ObservedCredential,
  ObservedState,
  Pending,
  ServedEndpoint,
} from '@virt-trust/contract/model/observed-state.ts';
import { SERVICES, type Service } from '@virt-trust/contract/model/service.ts';
import { parseCertificates } from '@virt-trust/pki/certificate.ts';
import type { Workshop } from '../served/workshop.ts';
import type { HostFacts } from '../services/host-effects.ts';
import type { ApplyState, Journal, Transition } from '../sets/apply-state.ts';
import { isOurVncDirectory, LAYOUTS } from '../sets/layout.ts';
import { REPAIR_LIMIT } from '../sets/repair-count.ts';
import { pendingOf, type RestartWait } from './restart-wait.ts';

/** What the agent made of what is wanted, as the manager reads it. */
export async function observe(parts: {
  readonly workshop: Workshop;
  readonly mode: ObservedState['mode'];
  readonly wanted: DesiredState | undefined;
  readonly journal: Journal | undefined;
  readonly facts: HostFacts | undefined;
  readonly busy: boolean;
  readonly served: readonly ServedEndpoint[];
  readonly network: ObservedState['network'];
  readonly wait: RestartWait | undefined;
  readonly capabilities: ObservedState['capabilities'];
}): Promise<ObservedState> {
  const { workshop, mode, wanted, journal, facts, busy } = parts;
  const state = await workshop.state();
  const services = SERVICES.filter(
    (service) =>
      wanted?.credentials.some((one) => one.service === service) ||
      state.services.some((one) => one.service === service && one.current !== null),
  );
  const credentials: ObservedCredential[] = [];
  for (const service of services) credentials.push(await observeService(service, state, parts));
  return {
    mode,
    epoch: wanted?.epoch ?? state.epoch,
    number: wanted?.number ?? state.number,
    settings: settledSettings(wanted, state),
    credentials,
    pending: [
      ...pendingOf(parts.wait),
      ...vncPending(wanted, state, facts),
      ...devicePending(facts),
      ...repairPending(state),
      ...leftPending(wanted, state),
    ].slice(0, 1024),
    served: parts.served.slice(0, 4096),
    crls: await workshop.crls.installed(),
    rescues: await workshop.rescuer.active(),
    network: parts.network,
    capabilities: parts.capabilities,
    failure: journal === undefined && !busy ? state.failure : null,
    busy,
  };
}

/** A state that a former version of the agent left does not say; what it applied without failure is what it has. */
function settledSettings(wanted: DesiredState | undefined, state: ApplyState): DesiredSettings | null {
  if (state.settings !== undefined) return state.settings;
  const isSettled =
    wanted !== undefined &&
    wanted.epoch === state.epoch &&
    wanted.number === state.number &&
    state.failure === null &&
    state.services.every(({ failure }) => failure === null);
  return isSettled ? wanted.settings : null;
}

async function observeService(
  service: Service,
  state: ApplyState,
  parts: { workshop: Workshop; journal: Journal | undefined; busy: boolean },
): Promise<ObservedCredential> {
  const { workshop, journal, busy } = parts;
  const known = state.services.find((one) => one.service === service);
  const current = known?.current ?? null;
  const transition = journal?.transitions.find((one) => one.service === service);
  const failure = busy ? null : (known?.failure ?? null);
  return {
    service,
    generation: current?.number ?? null,
    candidate: transition === undefined ? null : await candidateOf(workshop, transition),
    identity: current?.identity ?? 'none',
    serialNumber: current?.serialNumber ?? null,
    pin: current?.pin ?? null,
    notAfter: current?.notAfter ?? null,
    phase: await phaseOf(service, parts, transition, current !== null, failure !== null),
    proofs: known?.proofs ?? [],
    failure,
  };
}

async function phaseOf(
  service: Service,
  { workshop, journal, busy }: { workshop: Workshop; journal: Journal | undefined; busy: boolean },
  transition: Transition | undefined,
  served: boolean,
  failed: boolean,
): Promise<ObservedCredential['phase']> {
  if (failed) return 'failed';
  if (journal === undefined) return served && !busy ? 'settled' : 'applying';
  if (transition === undefined) return served ? 'settled' : 'applying';
  switch (journal.steps[journal.at]) {
    case 'await-certificates':
      return transition.request && !(await workshop.staging.hasCertificate(service, transition.to))
        ? 'requested'
        : 'applying';
    case 'await-proof':
      return service === 'libvirt' ? 'proving' : 'applying';
    default:
      return 'applying';
  }
}

async function candidateOf(workshop: Workshop, { service, to }: Transition) {
  const { certificate } = await workshop.staging.content(LAYOUTS[service], to);
  const [leaf] = certificate === undefined ? [] : parseCertificates(certificate);
  return { generation: to, pin: leaf?.pin ?? null };
}

/** VMs whose VNC goes on as they were started. */
function vncPending(
  wanted: DesiredState | undefined,
  state: ApplyState,
  facts: HostFacts | undefined,
): Pending[] {
  const served = state.services.some(({ service, current }) => service === 'vnc' && current !== null);
  if (!served || facts === undefined) return [];
  return facts.vms.flatMap(({ name, vnc }) => {
    const other = vnc.find(({ tlsDirectory }) => !isOurVncDirectory(tlsDirectory));
    if (other === undefined) return [];
    const { tlsDirectory } = other;
    if (tlsDirectory === null && wanted?.settings.vncTls !== 'on') return [];
    const why =
      tlsDirectory === null
        ? 'its VNC server was started without TLS'
        : `its VNC server was started with the certificates in ${tlsDirectory}`;
    return [{ what: `vnc of ${name}`.slice(0, 1000), why, action: 'restart or migrate the VM' }];
  });
}

/** Devices of VMs that go on with certificates whose files are others by now. */
function devicePending(facts: HostFacts | undefined): Pending[] {
  return (facts?.staleDevices ?? []).map(({ vm, kind, directory }) => ({
    what: `${kind} of ${vm}`.slice(0, 1000),
    why: `it loaded certificates from ${directory} before these were changed`.slice(0, 4000),
    action:
      kind === 'vnc'
        ? 'nothing: it is reloaded once the VM has arrived'
        : 'plug the device anew, or restart or migrate the VM',
  }));
}

/** What TLS left on a host when it was switched off. */
function leftPending(wanted: DesiredState | undefined, { left = [] }: ApplyState): Pending[] {
  if (wanted?.settings.tls !== 'off') return [];
  return left.map((why) => ({
    what: 'TLS that was switched off',
    why,
    action: 'nothing where it names VMs: what they need goes once they were restarted or migrated away',
  }));
}

function repairPending(state: ApplyState): Pending[] {
  return state.repairs
    .filter(({ count }) => count > REPAIR_LIMIT)
    .map(({ path }) => ({
      what: path.slice(0, 1000),
      why: `something on the host changes it; it was repaired ${REPAIR_LIMIT} times, then left alone`,
      action:
        'find out what changes it (VDSM, CloudStack, a configuration tool), then provision the host again',
    }));
}
