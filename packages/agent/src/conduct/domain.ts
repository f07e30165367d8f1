import { isTrustError } from '@virt-trust/base/error.ts';
import { type DomainState, domainState } from '@virt-trust/libvirt/domain-state.ts';
import {
  connectListAllDomains,
  domainGetJobStats,
  domainGetState,
  domainGetXmlDesc,
  domainLookupByName,
  domainLookupByUuid,
  type RemoteDomain,
} from '@virt-trust/libvirt/migration-protocol.ts';
import { copiedDisks, migrationXmlDigest } from '@virt-trust/libvirt/migration-xml.ts';
import type { LibvirtErrorContext, RpcClient } from './rpc-client.ts';

/** `virErrorNumber`: VIR_ERR_NO_DOMAIN. */
const NO_DOMAIN = 42;
/** `virDomainXMLFlags`: what migrates (MIGRATABLE), with its secrets (SECURE), of the stored definition (INACTIVE). */
const MIGRATABLE = 9;
const MIGRATABLE_STORED = 11;
const ACTIVE_JOBS = [1, 2];

/** Whether libvirt answered with that error. */
export function isLibvirtError(error: unknown, code?: number): boolean {
  if (!isTrustError(error, 'libvirt.error')) return false;
  return code === undefined || (error.context as unknown as LibvirtErrorContext).code === code;
}

/** A VM by its name, or its UUID; undefined where it is not there. */
export async function findDomain(
  client: RpcClient,
  by: { readonly name: string } | { readonly uuid: string },
): Promise<RemoteDomain | undefined> {
  try {
    const found =
      'uuid' in by ? await client.call(domainLookupByUuid, by) : await client.call(domainLookupByName, by);
    return found.domain;
  } catch (error) {
    if (isLibvirtError(error, NO_DOMAIN)) return undefined;
    throw error;
  }
}

/** Every VM of a libvirt, whether it runs or not. */
export async function listDomains(client: RpcClient): Promise<readonly RemoteDomain[]> {
  const { domains } = await client.call(connectListAllDomains, { needResults: 1, flags: 0 });
  return domains;
}

/** How a VM stands; null where it is not there. */
export async function stateOf(client: RpcClient, uuid: string): Promise<DomainState | null> {
  const domain = await findDomain(client, { uuid });
  if (domain === undefined) return null;
  try {
    const { state, reason } = await client.call(domainGetState, { domain, flags: 0 });
    return domainState(state, reason);
  } catch (error) {
    // It went in between.
    if (isLibvirtError(error, NO_DOMAIN)) return null;
    throw error;
  }
}

/** Whether libvirt works on the VM. */
export async function hasJob(client: RpcClient, domain: RemoteDomain): Promise<boolean> {
  const { type } = await client.call(domainGetJobStats, { domain, flags: 0 });
  return ACTIVE_JOBS.includes(type);
}

/** A VM as it would be migrated. */
export interface MigratableVm {
  readonly domain: RemoteDomain;
  readonly xml: string;
  readonly xmlSha256: string;
  /** Its stored definition, where that goes along and there is one. */
  readonly persistentXml: string | null;
  readonly persistentXmlSha256: string | null;
  readonly copiedDisks: string[];
}

/** Reads a VM as Begin3 will give it; undefined where it is not there. */
export async function readMigratable(
  client: RpcClient,
  name: string,
  options: { readonly persistent: boolean; readonly copies: boolean; readonly copyDisks: readonly string[] },
): Promise<MigratableVm | undefined> {
  const domain = await findDomain(client, { name });
  if (domain === undefined) return undefined;
  const { xml } = await client.call(domainGetXmlDesc, { domain, flags: MIGRATABLE });
  const persistentXml = options.persistent
    ? (await client.call(domainGetXmlDesc, { domain, flags: MIGRATABLE_STORED })).xml
    : null;
  return {
    domain,
    xml,
    xmlSha256: migrationXmlDigest(xml),
    persistentXml,
    persistentXmlSha256: persistentXml === null ? null : migrationXmlDigest(persistentXml),
    copiedDisks: options.copies ? copiedDisks(xml, options.copyDisks) : [],
  };
}
