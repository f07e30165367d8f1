import { TrustError } from '@virt-trust/base/error.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { DesiredCredential } from '@virt-trust/contract/model/desired-state.ts';
import { FFDHE2048_PEM } from '@virt-trust/libvirt/dh-params.ts';
import type { Transition } from '../sets/apply-state.ts';
import { type Found, type FoundManifest, foundIdentity as identityFound } from '../sets/found.ts';
import { LAYOUTS } from '../sets/layout.ts';
import type { GenerationContent, Staging } from '../sets/staging.ts';
import { mergeBundle } from './bundle.ts';

type Pair = { readonly certificate: string; readonly key: string };
type Identity = { readonly server: Pair; readonly client: Pair };

/** The texts of a generation's files, and why found CA certificates did not get into its bundle. */
export interface MadeContent {
  readonly content: GenerationContent;
  readonly leftOut: readonly string[];
}

/** Makes the content of a generation: from its own request, the one before it, or what was found on the host. */
export async function makeContent(parts: {
  readonly credential: DesiredCredential;
  readonly transition: Transition;
  readonly staging: Staging;
  readonly found: Found;
  readonly manifest: FoundManifest;
  readonly at: Instant;
}): Promise<MadeContent> {
  const { credential, transition, found, manifest, at } = parts;
  const identity = transition.identity === 'found' ? await foundIdentity(parts) : await ownIdentity(parts);
  const trustsFound = credential.keepFoundTrust || credential.identity === 'found';
  const foundCa = await found.content(manifest, identityFound(manifest, credential.service).ca);
  const bundle = mergeBundle(
    credential.bundle,
    trustsFound && foundCa !== undefined ? [foundCa.toString('utf8')] : [],
    at,
  );
  const { server, client } = identity;
  return {
    content: {
      bundle: bundle.pem,
      certificate: server.certificate,
      key: server.key,
      'client-certificate': client.certificate,
      'client-key': client.key,
      'dh-parameters': FFDHE2048_PEM,
    },
    leftOut: bundle.leftOut,
  };
}

async function ownIdentity(parts: {
  readonly transition: Transition;
  readonly staging: Staging;
}): Promise<Identity> {
  const { transition, staging } = parts;
  const { service, to, from } = transition;
  if (transition.request || from === null) {
    const pair = await staging.requested(service, to);
    return { server: pair, client: pair };
  }
  const before = await staging.content(LAYOUTS[service], from);
  const pair = { certificate: before.certificate ?? '', key: before.key ?? '' };
  return { server: pair, client: pair };
}

async function foundIdentity(parts: {
  readonly transition: Transition;
  readonly found: Found;
  readonly manifest: FoundManifest;
}): Promise<Identity> {
  const { found, manifest } = parts;
  const { service } = parts.transition;
  const paths = identityFound(manifest, service);
  const pair = async (certificate: string | null, key: string | null): Promise<Pair | undefined> => {
    const [certificateText, keyText] = await Promise.all([
      found.content(manifest, certificate),
      found.content(manifest, key),
    ]);
    if (certificateText === undefined || keyText === undefined) return undefined;
    return { certificate: certificateText.toString('utf8'), key: keyText.toString('utf8') };
  };
  const [server, client] = await Promise.all([
    pair(paths.certificate, paths.key),
    pair(paths.clientCertificate, paths.clientKey),
  ]);
  // Disks over NBD need a client's files alone; the pair that is there stands for both.
  const one = server ?? (service === 'nbd' ? client : undefined);
  if (one === undefined) {
    throw new TrustError(
      'adoption.nothing_found',
      'failed',
      `cannot go on serving what was found for ${service}: no certificate with its key was found`,
      { context: { service }, hint: 'collect the host again and provision it; ours is served then' },
    );
  }
  return { server: one, client: client ?? one };
}
