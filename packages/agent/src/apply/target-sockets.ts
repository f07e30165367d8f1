import type { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import type { HostFacts } from '../services/host-effects.ts';
import type { Sockets } from '../sets/apply-state.ts';
import type { FoundManifest } from '../sets/found.ts';

/** The sockets as desired: TLS on with libvirt's certificate, plain TCP off or as it was found; without TLS as found. */
export function targetSockets(desired: DesiredState, manifest: FoundManifest, facts: HostFacts): Sockets {
  const { sockets } = facts;
  if (desired.settings.tls === 'off') return manifest.sockets ?? sockets;
  if (facts.listening === 'own-sockets' || !desired.credentials.some(({ service }) => service === 'libvirt'))
    return sockets;
  const tcp =
    desired.settings.plainTcp === 'off'
      ? { enabled: false, active: false }
      : (manifest.sockets?.tcp ?? sockets.tcp);
  return { tls: { enabled: true, active: true }, tcp };
}
