import { parseDuration } from '@virt-trust/base/duration.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import type { SettingSubject, Settings } from '../settings/settings.ts';

/** How long the certificates of a service live: long where nothing but a restart of the VM loads the next one. */
const SETTING_OF_SERVICE = {
  libvirt: 'certificate.lifetime',
  migration: 'certificate.lifetime',
  vnc: 'certificate.lifetime',
  spice: 'certificate.restart_lifetime',
  nbd: 'certificate.restart_lifetime',
  backup: 'certificate.lifetime',
} as const satisfies Readonly<Record<Service, string>>;

/** The milliseconds for which a certificate of the service would be made now. */
export async function lifetimeOf(
  settings: Settings,
  service: Service,
  subject: SettingSubject,
): Promise<number> {
  const name = SETTING_OF_SERVICE[service];
  const lifetime = parseDuration(await settings.value(name, subject));
  if (lifetime !== undefined) return lifetime;
  throw new TrustError('setting.invalid', 'internal', `cannot read setting ${name}: it is no duration`);
}
