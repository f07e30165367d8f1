import { existsSync } from 'node:fs';
import type { Service } from '@virt-trust/contract/model/service.ts';
import { QEMU_FILE_NAMES } from '@virt-trust/libvirt/layout.ts';
import { readLibvirtdSettings } from '@virt-trust/libvirt/libvirtd-settings.ts';
import { readQemuSettings } from '@virt-trust/libvirt/qemu-settings.ts';
import type { HostFacts } from '../services/host-effects.ts';
import {
  type Found,
  type FoundIdentity,
  type FoundManifest,
  keepsEveryService,
  pathsToKeep,
} from '../sets/found.ts';
import { readHostConfiguration } from '../sets/settings-files.ts';
import type { AgentPaths } from '../state/paths.ts';

/** Finds what libvirt and QEMU use on this host and keeps all that virt-trust may come to stand at. */
export async function keepFound(paths: AgentPaths, found: Found, facts: HostFacts): Promise<FoundManifest> {
  const known = await found.read();
  if (known !== undefined && keepsEveryService(known)) return known;
  const rpcConfiguration = `/etc/libvirt/${facts.daemon}.conf`;
  const qemuConfiguration = '/etc/libvirt/qemu.conf';
  const identities = await findIdentities(paths, facts, rpcConfiguration, qemuConfiguration);
  const what = { identities, rpcConfiguration, qemuConfiguration };
  return await found.keep({ ...what, sockets: facts.sockets, paths: pathsToKeep(what) });
}

/** The files that are effective by the rules of libvirt, those that exist. */
async function findIdentities(
  paths: AgentPaths,
  facts: HostFacts,
  rpcConfiguration: string,
  qemuConfiguration: string,
): Promise<Record<Service, FoundIdentity>> {
  const exists = (hostPath: string) => existsSync(paths.at(hostPath));
  const present = (hostPath: string | undefined) =>
    hostPath !== undefined && exists(hostPath) ? hostPath : null;
  const rpc = readLibvirtdSettings(await readHostConfiguration(paths, rpcConfiguration), facts.daemon).files;
  const qemu = readQemuSettings(await readHostConfiguration(paths, qemuConfiguration), exists).services;
  const inDirectory = (directory: string): FoundIdentity => {
    const file = (name: string) => present(`${directory}/${name}`);
    return {
      ca: file(QEMU_FILE_NAMES.caCertificate),
      crl: file(QEMU_FILE_NAMES.crl),
      certificate: file(QEMU_FILE_NAMES.serverCertificate),
      key: file(QEMU_FILE_NAMES.serverKey),
      clientCertificate: file(QEMU_FILE_NAMES.clientCertificate),
      clientKey: file(QEMU_FILE_NAMES.clientKey),
    };
  };
  return {
    libvirt: {
      ca: present(rpc.caCertificate),
      crl: present(rpc.crl),
      certificate: present(rpc.identities[0]?.certificate),
      key: present(rpc.identities[0]?.key),
      clientCertificate: null,
      clientKey: null,
    },
    migration: inDirectory(qemu.migrate.directory),
    vnc: inDirectory(qemu.vnc.directory),
    spice: { ...inDirectory(qemu.spice.directory), crl: null, clientCertificate: null, clientKey: null },
    nbd: inDirectory(qemu.nbd.directory),
    backup: inDirectory(qemu.backup.directory),
  };
}
