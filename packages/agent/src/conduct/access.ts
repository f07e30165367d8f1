import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Clock } from '@virt-trust/base/clock.ts';
import { describeError, isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { connectLibvirtTls } from '@virt-trust/connect/probe-libvirt.ts';
import type { LibvirtAccess } from '@virt-trust/contract/model/migration.ts';
import { knownHint } from './hints.ts';
import { RpcClient } from './rpc-client.ts';

const DIAL_MS = 15_000;

/** What a TLS access needs beside its address: the certificate of this migration and whom it trusts. */
export interface ClientFilesPem {
  readonly certificate: string;
  readonly privateKey: string;
  readonly trust: string;
  readonly crl: string | undefined;
}

/** What libvirt is opened with. */
export interface AccessParts {
  /** The host's root, `/` outside tests. */
  readonly at: (hostPath: string) => string;
  readonly clock: Clock;
  readonly tls: ClientFilesPem | null;
  /** A connection through the agent there, in mode `pinned`. */
  readonly peer: (() => Promise<Duplex>) | null;
}

/** Opens libvirt's RPC as an order says; throws `probe.*`, `libvirt.*`. */
export async function openAccess(
  access: LibvirtAccess,
  where: string,
  parts: AccessParts,
): Promise<RpcClient> {
  return await RpcClient.open(await streamOf(access, where, parts), { where });
}

async function streamOf(access: LibvirtAccess, where: string, parts: AccessParts): Promise<Duplex> {
  switch (access.kind) {
    case 'local':
      return await dialled(connect({ path: localSocket(parts.at) }), where);
    case 'tcp':
      return await dialled(
        connect({ host: access.address, port: access.port, noDelay: true }),
        `${where} at ${access.address} port ${access.port}`,
      );
    case 'tls': {
      if (parts.tls === null) throw lacking(where, 'the certificate of this migration is gone');
      const { certificate, privateKey, trust, crl } = parts.tls;
      const options = {
        host: access.address,
        port: access.port,
        timeoutMs: DIAL_MS,
        serverName: access.address,
        trust,
        crls: crl,
        client: { certificatePem: certificate, privateKeyPem: privateKey },
        clock: parts.clock,
      };
      try {
        return await connectLibvirtTls(options);
      } catch (error) {
        throw noConnection(error, `${where} at ${access.address} port ${access.port}`);
      }
    }
    case 'peer':
      if (parts.peer === null) throw lacking(where, 'there is no grant for it');
      return await parts.peer();
  }
}

/** Of the daemon that runs VMs itself: with the modular daemons libvirt-sock is a proxy's. */
function localSocket(at: (hostPath: string) => string): string {
  const modular = at('/run/libvirt/virtqemud-sock');
  return existsSync(modular) ? modular : at('/run/libvirt/libvirt-sock');
}

function dialled(socket: ReturnType<typeof connect>, where: string): Promise<Duplex> {
  const { promise, resolve, reject } = Promise.withResolvers<Duplex>();
  const timer = setTimeout(() => socket.destroy(new Error(`no answer within ${DIAL_MS / 1000} s`)), DIAL_MS);
  socket.once('connect', () => resolve(socket));
  socket.once('error', (cause) => reject(noConnection(cause, where)));
  return promise.finally(() => clearTimeout(timer));
}

/** A failed connection in the words of a migration. */
function noConnection(error: unknown, where: string): TrustError {
  const reason = describeError(error).replace(/^cannot probe .*? port \d{1,5}: /, '');
  const message = `cannot connect to libvirt of ${where}: ${reason}`;
  const hint = knownHint(reason) ?? (isTrustError(error) ? error.hint : undefined);
  const details = { cause: error, ...(hint === undefined ? {} : { hint }) };
  return new TrustError('libvirt.unreachable', 'unavailable', message, details);
}

function lacking(where: string, reason: string): TrustError {
  return new TrustError('libvirt.no_access', 'failed', `cannot reach libvirt of ${where}: ${reason}`);
}
