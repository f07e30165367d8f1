import type { HostSummary } from '@virt-trust/contract/model/host.ts';
import type { MigrationMode } from '@virt-trust/contract/model/migration-options.ts';
import type { Host } from './host.ts';
import { listensForOthers } from './listening.ts';
import { startsLibvirt } from './stopped-libvirt.ts';

type Security = HostSummary['security'];

/** The setting kvm.libvirtd.tls.enabled as it holds for a host. */
export type TlsSwitch = Security['tls'];

/** What a host can do in migrations by its own report; without one it counts as not secured. */
export function securityOf(
  host: Pick<Host, 'name' | 'cluster' | 'ssh' | 'observed' | 'observeOnly' | 'revoked' | 'inventory'>,
  tls: TlsSwitch,
): Security {
  const reported = host.observed?.capabilities ?? null;
  const wrong = [...wrongBesides(host, tls), ...lacksOf(host, reported)];
  const mend = wrong[0]?.mend ?? '';
  const missing = wrong.map(({ what }) => what);
  if (reported === null) return { reported: false, modes: [], missing, mend, tls };
  const modes: MigrationMode[] = [];
  // It takes part in none, whatever it can do.
  if (host.revoked !== undefined) return { reported: true, modes, missing, mend, tls };
  if (missing.length === 0) modes.push('tls');
  if (reported.pinned && !reported.migrateTlsForce) modes.push('pinned');
  const { libvirtTcp } = reported;
  if (listensForOthers(libvirtTcp) && libvirtTcp.authentication === 'none' && !reported.migrateTlsForce)
    modes.push('plain');
  return { reported: true, modes, missing, mend, tls };
}

/**
 * The state of a host for people: `secured` is never assumed of what its last provisioning left, but only where what the
 * host reported last is what it is to be.
 */
export function shownState({ state }: Pick<Host, 'state'>, { missing }: Security): Host['state'] {
  return state === 'secured' && missing.length > 0 ? 'unsecured' : state;
}

interface Wrong {
  readonly what: string;
  readonly mend: string;
}

/** What keeps a host from being secured whatever it reports; each mended before what it reports is. */
function wrongBesides(
  { name, cluster, ssh, observeOnly, revoked }: Parameters<typeof securityOf>[0],
  { enabled, from }: TlsSwitch,
): Wrong[] {
  const wrong: Wrong[] = [];
  if (observeOnly)
    wrong.push({
      what: 'its agent only looks',
      mend: `virt-trust host add ${name} --ssh ${ssh.destination}`,
    });
  if (!enabled) {
    const scope = { default: '', global: '', cluster: ` --cluster ${cluster}`, host: ` --host ${name}` }[
      from
    ];
    wrong.push({
      what: `TLS is switched off: kvm.libvirtd.tls.enabled is off ${PLACE[from](name, cluster)}`,
      mend: `virt-trust setting set kvm.libvirtd.tls.enabled on${scope}`,
    });
  }
  if (revoked !== undefined)
    wrong.push({ what: 'all its certificates were revoked', mend: `virt-trust host provision ${name}` });
  return wrong;
}

const PLACE: Readonly<Record<TlsSwitch['from'], (host: string, cluster: string) => string>> = {
  default: () => 'by default',
  global: () => 'everywhere',
  cluster: (_, cluster) => `for cluster ${cluster}`,
  host: (host) => `for host ${host}`,
};

function lacksOf(
  host: Parameters<typeof securityOf>[0],
  reported: NonNullable<Host['observed']>['capabilities'],
): Wrong[] {
  const { name } = host;
  const mend = `virt-trust host provision ${name}`;
  if (reported === null)
    return [{ what: 'its agent has not reported what it can do', mend: `${mend} --reconnect` }];
  const wrong: Wrong[] = [];
  const start = startsLibvirt(host);
  if (start !== null) wrong.push({ what: 'libvirt is stopped, or does not answer', mend: start });
  else if (!listensForOthers(reported.libvirtTls))
    wrong.push({ what: 'libvirt does not listen with TLS', mend });
  if (!reported.nativeTls) wrong.push({ what: reported.nativeTlsLacks, mend });
  return wrong;
}
