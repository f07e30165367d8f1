import { TrustError } from '@virt-trust/base/error.ts';
import { instant } from '@virt-trust/base/instant.ts';
import type { DesiredCredential, DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import type { Proof } from '@virt-trust/contract/model/observed-state.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import { parseCertificates } from '@virt-trust/pki/certificate.ts';
import { type Generation, type ServiceState, type Transition, withService } from '../sets/apply-state.ts';
import { LAYOUTS } from '../sets/layout.ts';
import { FOUND_GENERATION } from '../sets/serving.ts';
import { verifyContent } from '../sets/staging.ts';
import { keepFound as keepWhatIsFound } from './adoption.ts';
import { makeContent } from './content.ts';
import type { StepContext } from './run.ts';
import { targetSockets } from './target-sockets.ts';

export async function keepFound({ workshop, facts }: StepContext): Promise<void> {
  await keepWhatIsFound(workshop.options.paths, workshop.found, facts);
}

export async function request(context: StepContext, service: Service): Promise<void> {
  const { to } = transitionOf(context, service);
  // Given out durably before it is used, so that no number ever names two sets.
  await updateService(context, service, (known) => ({
    ...known,
    lastNumber: Math.max(known.lastNumber, to),
  }));
  await context.workshop.staging.request(credentialOf(context, service), to);
}

export async function awaitCertificates(context: StepContext): Promise<void> {
  const { workshop } = context;
  await workshop.options.emit(
    'apply.certificates_awaited',
    'host',
    'certificate requests wait for the manager',
  );
  for (;;) {
    const changed = context.changed();
    const asking = context.journal.transitions.filter((one) => one.request);
    const there = await Promise.all(
      asking.map((one) => workshop.staging.hasCertificate(one.service, one.to)),
    );
    if (there.every(Boolean)) return;
    context.checkWaiting();
    await changed;
  }
}

export async function stage(context: StepContext, service: Service): Promise<void> {
  const { workshop } = context;
  const transition = transitionOf(context, service);
  await updateService(context, service, (known) => ({
    ...known,
    lastNumber: Math.max(known.lastNumber, transition.to),
  }));
  const { content, leftOut } = await makeContent({
    credential: credentialOf(context, service),
    transition,
    staging: workshop.staging,
    found: workshop.found,
    manifest: await workshop.manifest(),
    at: workshop.options.clock.now(),
  });
  for (const reason of leftOut)
    await workshop.options.emit(
      'apply.found_ca_left_out',
      service,
      `of the CA file that was found: ${reason}`,
    );
  await workshop.staging.write(LAYOUTS[service], transition.to, content);
}

export async function verify(context: StepContext, service: Service): Promise<void> {
  const { workshop, facts } = context;
  const layout = LAYOUTS[service];
  const content = await workshop.staging.content(layout, transitionOf(context, service).to);
  const versions = { libvirt: facts.libvirtVersion, qemu: facts.qemuVersion };
  const { warnings } = verifyContent(
    layout,
    content,
    credentialOf(context, service),
    workshop.options.clock.now(),
    versions,
  );
  for (const warning of warnings) workshop.options.log.info({ service, warning }, 'certificate check');
}

export async function permitReading({ workshop }: StepContext): Promise<void> {
  await workshop.options.effects.permitReading();
}

export async function install(context: StepContext, service: Service): Promise<void> {
  const { workshop, facts } = context;
  await workshop.serving.install(LAYOUTS[service], transitionOf(context, service).to, facts.qemuGid);
}

export async function link(context: StepContext, service: Service): Promise<void> {
  const { workshop, facts } = context;
  if (await workshop.crls.foundIsUnusable(service))
    await workshop.options.emit(
      'apply.found_crl_left_out',
      service,
      'the CRL file that was found holds no CRL',
    );
  await workshop.crls.write(service);
  await workshop.links.put(LAYOUTS[service], await workshop.manifest(), facts.qemuGid);
}

export async function switchService(context: StepContext, service: Service): Promise<void> {
  const { workshop } = context;
  await workshop.serving.switchTo(LAYOUTS[service], transitionOf(context, service).to);
}

export async function keepSettings(context: StepContext): Promise<void> {
  const { workshop, facts, journal } = context;
  const manifest = await workshop.manifest();
  const { ownKeys } = await workshop.state();
  await workshop.settings.keepBefore(manifest);
  const settingsChanged = await workshop.settings.differs(manifest, desiredOf(context), facts, ownKeys);
  context.journal = { ...journal, sockets: facts.sockets, ownKeysBefore: ownKeys, settingsChanged };
}

export async function writeSettings(context: StepContext): Promise<void> {
  const { workshop, facts } = context;
  const state = await workshop.state();
  const manifest = await workshop.manifest();
  const ownKeys = await workshop.settings.write(manifest, desiredOf(context), facts, state.ownKeys);
  await workshop.saveState({ ...state, ownKeys });
}

export async function bringDaemon(context: StepContext): Promise<void> {
  const { workshop, journal, facts } = context;
  const sockets = targetSockets(desiredOf(context), await workshop.manifest(), facts);
  await workshop.options.effects.bringDaemon({ sockets, restart: journal.settingsChanged });
  // Another restart, on the way back, has a wait of its own.
  await workshop.waiting.remove();
}

export async function openPorts(context: StepContext): Promise<void> {
  const { credentials, settings } = desiredOf(context);
  await context.workshop.options.effects.openPorts(
    credentials.map(({ service }) => service),
    settings.consoles,
  );
}

export async function reload(context: StepContext, service: Service): Promise<void> {
  await context.workshop.options.effects.reload(service, context.facts);
}

export async function prove(context: StepContext, service: Service): Promise<void> {
  const generation = await context.workshop.serving.current(service);
  // A set that the host made itself is nobody's desired one, and other settings do not wait for its end.
  if (generation === undefined && (await context.workshop.serving.serves(service))) return;
  const proofs = await proveGeneration(context, service, generation ?? FOUND_GENERATION);
  const others = context.journal.proofs.filter((one) => one.service !== service);
  context.journal = {
    ...context.journal,
    proofs: [...others, ...proofs.slice(0, 60).map((proof) => ({ service, proof }))],
  };
}

/** Sees a generation of ours served, with the names that its certificate has. */
export async function proveGeneration(
  { workshop, facts, journal }: StepContext,
  service: Service,
  generation: number,
): Promise<Proof[]> {
  const transition = journal.transitions.find((one) => one.service === service && one.to === generation);
  const known = (await workshop.state()).services.find((one) => one.service === service)?.current;
  const identity = (transition ?? (known?.number === generation ? known : undefined))?.identity ?? 'found';
  const content = await workshop.staging.content(LAYOUTS[service], generation);
  const leaf = leafOf(content.certificate);
  const names = leaf.extensions.subjectAltName?.names ?? [];
  const addresses = names.flatMap((name) => (name.kind === 'ip' ? [name.value] : []));
  const dns = names.flatMap((name) => (name.kind === 'dns' ? [name.value] : []));
  return await workshop.options.effects.prove(service, {
    pin: leaf.pin,
    identity,
    names: { dns, addresses },
    // What was found may be for addresses that are not the host's own.
    addresses: journal.desired?.credentials.find((one) => one.service === service)?.names.addresses ?? [],
    bundle: content.bundle ?? '',
    at: workshop.options.clock.now(),
    facts,
  });
}

export async function awaitProof(context: StepContext): Promise<void> {
  const { workshop, journal } = context;
  const { clock, proofBoundMs, emit } = workshop.options;
  const deadline = journal.proofDeadline ?? instant(clock.now() + proofBoundMs);
  if (journal.proofDeadline === null) {
    context.journal = { ...journal, proofDeadline: deadline };
    await workshop.journal.write(context.journal);
  }
  await emit('apply.proof_awaited', 'libvirt', "waits for the manager's own handshake");
  for (;;) {
    const changed = context.changed();
    const verdict = await workshop.verdict.read();
    const { to } = transitionOf(context, 'libvirt');
    if (verdict?.generation === to) {
      if (verdict.kind === 'refused') throw refused(verdict.reason);
      const { proof } = verdict;
      context.journal = {
        ...context.journal,
        proofs: [...context.journal.proofs, { service: 'libvirt', proof }],
      };
      return;
    }
    context.checkWaiting();
    const left = deadline - clock.now();
    if (left <= 0) throw noVerdict(proofBoundMs);
    await orAfter(changed, left);
  }
}

export async function settle(context: StepContext): Promise<void> {
  const { workshop, journal } = context;
  const desired = desiredOf(context);
  let state = await workshop.state();
  for (const transition of journal.transitions) {
    const generation = await generationOf(context, transition);
    state = withService(state, transition.service, (known) => ({
      ...known,
      current: generation,
      failure: null,
      proofs: [],
    }));
  }
  for (const service of new Set(journal.proofs.map((one) => one.service))) {
    const proofs = journal.proofs.filter((one) => one.service === service).map(({ proof }) => proof);
    state = withService(state, service, (known) => {
      // The manager is asked again for another certificate alone: what it saw of this one goes on counting.
      const seen = known.proofs.filter(
        ({ by, servedPin }) => by === 'manager' && servedPin === known.current?.pin,
      );
      return { ...known, proofs: [...proofs, ...seen].slice(0, 64) };
    });
  }
  const services = state.services.map((one) => ({ ...one, failure: null }));
  await workshop.saveState({
    ...state,
    services,
    failure: null,
    epoch: desired.epoch,
    number: desired.number,
    settings: desired.settings,
    repairs: [],
    left: [],
  });
}

/** Destroys the sets of a service that are served no longer, with their private keys. */
export async function cleanService(context: StepContext, service: Service): Promise<void> {
  const { workshop } = context;
  const { to } = transitionOf(context, service);
  for (const number of await workshop.serving.generations(service))
    if (number !== to && number !== FOUND_GENERATION) await workshop.serving.destroy(service, number);
  await workshop.rescuer.forget(service);
  await workshop.staging.keepOnly(service, to);
  // The CRL of a CA that is trusted no longer goes with it.
  await workshop.crls.write(service);
}

async function generationOf({ workshop }: StepContext, transition: Transition): Promise<Generation> {
  const { service, to, identity, identityDigest, targetDigest } = transition;
  const leaf = leafOf((await workshop.staging.content(LAYOUTS[service], to)).certificate);
  const { serialNumber, pin, notAfter } = leaf;
  return { number: to, identity, identityDigest, targetDigest, serialNumber, pin, notAfter };
}

function leafOf(pem: string | undefined) {
  const [leaf] = parseCertificates(pem ?? '');
  if (leaf === undefined)
    throw new TrustError('generation.lost', 'internal', 'cannot read a staged certificate');
  return leaf;
}

function desiredOf({ journal }: StepContext): DesiredState {
  if (journal.desired !== null) return journal.desired;
  throw new TrustError(
    'apply.no_desired_state',
    'internal',
    'cannot apply: the journal names no desired state',
  );
}

export function transitionOf({ journal }: StepContext, service: Service): Transition {
  const transition = journal.transitions.find((one) => one.service === service);
  if (transition !== undefined) return transition;
  throw new TrustError(
    'apply.no_transition',
    'internal',
    `cannot apply ${service}: the journal does not name it`,
  );
}

function credentialOf(context: StepContext, service: Service): DesiredCredential {
  const credential = desiredOf(context).credentials.find((one) => one.service === service);
  if (credential !== undefined) return credential;
  throw new TrustError('apply.not_desired', 'internal', `cannot apply ${service}: it is not desired`);
}

async function updateService(
  { workshop }: StepContext,
  service: Service,
  change: (known: ServiceState) => ServiceState,
): Promise<void> {
  await workshop.saveState(withService(await workshop.state(), service, change));
}

async function orAfter(changed: Promise<void>, milliseconds: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  // Waits are cut at a day, which timers can hold.
  const timer = setTimeout(resolve, Math.min(milliseconds, 86_400_000));
  await Promise.race([changed, promise]);
  clearTimeout(timer);
}

function refused(reason: string): TrustError {
  return new TrustError(
    'apply.proof_refused',
    'failed',
    `cannot keep the new certificate of libvirt: the manager's handshake with it failed: ${reason}`,
    { hint: 'see that the manager reaches port 16514 of this host at the names of its certificate' },
  );
}

function noVerdict(bound: number): TrustError {
  return new TrustError(
    'apply.proof_missing',
    'unavailable',
    `cannot keep the new certificate of libvirt: the manager did not say within ${Math.round(bound / 1000)} s that it saw it`,
    { hint: 'provision the host again once the manager reaches it' },
  );
}
