import { sha256Hex } from '@virt-trust/base/digest.ts';
import type { DesiredCredential, DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import { SERVICES, type Service } from '@virt-trust/contract/model/service.ts';
import type { ApplyState, Journal, Transition } from '../sets/apply-state.ts';

/** What is done to a service by a step whose name ends in the service's. */
export type ServiceAction =
  | 'request'
  | 'stage'
  | 'verify'
  | 'install'
  | 'link'
  | 'switch'
  | 'reload'
  | 'prove'
  | 'clean'
  | 'back-switch'
  | 'back-links'
  | 'back-reload'
  | 'back-prove'
  | 'remove-switch'
  | 'remove-links'
  | 'remove-reload';

/** What is done to the host as a whole. */
export type HostAction =
  | 'keep-found'
  | 'await-certificates'
  | 'permit-reading'
  | 'keep-settings'
  | 'write-settings'
  | 'await-migrations'
  | 'bring-daemon'
  | 'open-ports'
  | 'await-proof'
  | 'settle'
  | 'back-settings'
  | 'back-daemon'
  | 'back-ports'
  | 'back-settle'
  | 'remove-settings'
  | 'remove-daemon'
  | 'remove-ports'
  | 'remove-reading'
  | 'remove-state'
  | 'off-state';

/** A step of a journal by its parts. */
export type Step =
  | { readonly kind: 'service'; readonly action: ServiceAction; readonly service: Service }
  | { readonly kind: 'host'; readonly action: HostAction };

/** The step of a name, as in a journal and at a barrier: `switch-libvirt`, `settle`. */
export function parseStep(name: string): Step {
  const service = SERVICES.find((one) => name.endsWith(`-${one}`));
  if (service === undefined) return { kind: 'host', action: name as HostAction };
  return { kind: 'service', action: name.slice(0, -service.length - 1) as ServiceAction, service };
}

/** What a plan is made from. */
export interface PlanInput {
  readonly desired: DesiredState;
  readonly state: ApplyState;
  /** Generations that wait for a certificate since an earlier application. */
  readonly waiting: readonly Transition[];
  /** Whether what was found on the host is kept already. */
  readonly foundKept: boolean;
  /** Whether configuration files or sockets are not as desired. */
  readonly settingsDiffer: boolean;
}

/** What an application does, step by step; no step where all is as desired. */
export interface Plan {
  readonly transitions: readonly Transition[];
  readonly steps: readonly string[];
}

/** Plans the way from what is served to what is desired. */
export function planApplication(input: PlanInput): Plan {
  const { desired, settingsDiffer, foundKept } = input;
  const transitions = desired.credentials.flatMap((credential) => planTransition(credential, input));
  if (transitions.length === 0 && !settingsDiffer) return { transitions, steps: [] };
  const each = (action: ServiceAction, chosen: readonly Transition[] = transitions) =>
    chosen.map(({ service }) => `${action}-${service}`);
  const asking = transitions.filter(({ request }) => request);
  const some = (present: boolean, ...names: string[]) => (present ? names : []);
  const served = new Set([
    ...transitions.map(({ service }) => service),
    // What serves already is seen to serve with other settings too.
    ...(settingsDiffer &&
    input.state.services.some(({ service, current }) => service === 'libvirt' && current !== null)
      ? ['libvirt' as const]
      : []),
  ]);
  const steps = [
    ...some(!foundKept, 'keep-found'),
    ...each('request', asking),
    ...some(asking.length > 0, 'await-certificates'),
    ...each('stage'),
    ...each('verify'),
    ...some(transitions.length > 0, 'permit-reading'),
    ...each('install'),
    ...each('link'),
    ...each('switch'),
    ...some(settingsDiffer, 'keep-settings', 'write-settings', 'await-migrations', 'bring-daemon'),
    'open-ports',
    ...each('reload'),
    ...SERVICES.filter((service) => served.has(service)).map((service) => `prove-${service}`),
    ...some(
      transitions.some(({ service }) => service === 'libvirt'),
      'await-proof',
    ),
    'settle',
    ...each('clean'),
  ];
  return { transitions, steps };
}

function planTransition(credential: DesiredCredential, { state, waiting }: PlanInput): Transition[] {
  const { service, identity } = credential;
  const known = state.services.find((one) => one.service === service);
  const current = known?.current ?? null;
  const targetDigest = digestOfTarget(credential);
  if (current?.targetDigest === targetDigest) return [];
  const again = waiting.find((one) => one.service === service && one.targetDigest === targetDigest);
  if (again !== undefined) return [again];
  const identityDigest = digestOfIdentity(credential);
  const keepsIdentity = current?.identity === 'ours' && current.identityDigest === identityDigest;
  return [
    {
      service,
      from: current?.number ?? null,
      to: (known?.lastNumber ?? 0) + 1,
      identity,
      identityDigest,
      targetDigest,
      request: identity === 'ours' && !keepsIdentity,
    },
  ];
}

/**
 * The way back from where an application failed: what it had begun, in the order that keeps the daemon startable.
 * `readsFound` says whether libvirt's own paths held a certificate before virt-trust.
 */
export function planWayBack(journal: Journal, readsFound: boolean): string[] {
  const begun = new Set(journal.steps.slice(0, journal.at + 1));
  const of = (action: ServiceAction, chosen: (one: Transition) => boolean) =>
    journal.transitions.filter(chosen).map(({ service }) => `${action}-${service}`);
  const linked = ({ service }: Transition) => begun.has(`link-${service}`);
  const switched = ({ service }: Transition) => begun.has(`switch-${service}`);
  const isNew = ({ from }: Transition) => from === null;
  // Without a found certificate a daemon that listens for TLS needs ours until it does so no more.
  const isLast = (one: Transition) => one.service === 'libvirt' && isNew(one) && !readsFound;
  const goesBack = (one: Transition) => switched(one) || (isNew(one) && linked(one));
  const firstEver = journal.transitions.length > 0 && journal.transitions.every(isNew);
  return [
    // Before anything is taken away that a running daemon, which still has its former settings, may need.
    ...(begun.has('bring-daemon') ? ['await-migrations'] : []),
    ...(begun.has('write-settings') ? ['back-settings'] : []),
    ...of('back-switch', (one) => goesBack(one) && !isLast(one)),
    ...of('back-links', (one) => isNew(one) && linked(one) && one.service !== 'libvirt'),
    ...(begun.has('bring-daemon') ? ['back-daemon'] : []),
    ...of('back-switch', (one) => goesBack(one) && isLast(one)),
    ...of('back-links', (one) => isNew(one) && linked(one) && one.service === 'libvirt'),
    ...of('back-reload', switched),
    ...of('back-prove', (one) => switched(one) && !isNew(one)),
    ...(firstEver && begun.has('open-ports') ? ['back-ports'] : []),
    'back-settle',
  ];
}

/**
 * The steps that give a host back what was found, for the services that were taken over; each is safe to repeat. What is
 * kept of it then is the last step's, of whoever plans. `readsFound` says whether libvirt's own paths held a certificate
 * before virt-trust.
 */
export function planRemoval(services: readonly Service[], readsFound: boolean): string[] {
  const each = (action: ServiceAction, chosen: (service: Service) => boolean = () => true) =>
    services.filter(chosen).map((service) => `${action}-${service}`);
  return [
    // Before anything is taken away: VMs are started with the daemon's settings meanwhile.
    'await-migrations',
    // Settings first: a configured directory that is missing keeps the daemon from starting.
    'remove-settings',
    ...each('remove-switch', (service) => service !== 'libvirt' || readsFound),
    // A default directory of QEMU's that is there when the daemon starts would be used by it.
    ...each('remove-links', (service) => service !== 'libvirt'),
    'remove-daemon',
    // Certificates go last, when nothing listens any more that needs them.
    ...each('remove-switch', (service) => service === 'libvirt' && !readsFound),
    ...each('remove-links', (service) => service === 'libvirt'),
    ...each('remove-reload'),
    'remove-ports',
    'remove-reading',
  ];
}

/** Digest of what a new key and certificate are needed for. */
export function digestOfIdentity(credential: DesiredCredential): string {
  const { identity, subject, names, keyAlgorithm, revision } = credential;
  if (identity === 'found') return sha256Hex('found');
  return sha256Hex(
    JSON.stringify([
      subject.commonName,
      subject.organization,
      names.dns.toSorted(),
      names.addresses.toSorted(),
      keyAlgorithm,
      revision,
      issuerOf(credential.bundle),
    ]),
  );
}

/** The bundle begins with the CA that issues: under another one the certificate must be another too. */
function issuerOf(bundle: string): string {
  return bundle.slice(0, bundle.indexOf('-----END CERTIFICATE-----'));
}

/** Digest of all that a generation is made from. */
export function digestOfTarget(credential: DesiredCredential): string {
  const trustsFound = credential.keepFoundTrust || credential.identity === 'found';
  return sha256Hex(JSON.stringify([digestOfIdentity(credential), credential.bundle, trustsFound]));
}
