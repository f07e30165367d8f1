import type { SecureContextOptions, TLSSocket } from 'node:tls';
import { ALPN_MIGRATION_DISKS, ALPN_MIGRATION_RPC, ALPN_MIGRATION_STREAM } from '@virt-trust/channel/alpn.ts';
import type { ChannelIdentity } from '@virt-trust/channel/identity.ts';
import { channelTlsOptions } from '@virt-trust/channel/tls-options.ts';

/** What a connection of a migration in mode `pinned` carries. */
export type StreamKind = 'rpc' | 'stream' | 'disks';

export const STREAM_ALPN: Readonly<Record<StreamKind, string>> = {
  rpc: ALPN_MIGRATION_RPC,
  stream: ALPN_MIGRATION_STREAM,
  disks: ALPN_MIGRATION_DISKS,
};

/** Dead peers are noticed after this and ten seconds (TCP_KEEPINTVL and TCP_KEEPCNT as libuv sets them). */
const KEEPALIVE_MS = 5000;

/** The channel's TLS parameters; the cheapest suite first, since a VM's whole memory goes through it. */
export function streamTlsOptions(identity: ChannelIdentity<'agent'>): SecureContextOptions {
  return {
    ...channelTlsOptions(identity),
    // RFC 8446 §9.1: what all must have, what small processors like, and what the channel takes by default.
    ciphers: 'TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384',
    honorCipherOrder: true,
  };
}

export function streamKindOf(alpn: string | false | null | undefined): StreamKind | undefined {
  const kinds: readonly StreamKind[] = ['rpc', 'stream', 'disks'];
  return kinds.find((kind) => STREAM_ALPN[kind] === alpn);
}

/** Has the kernel notice when the other host is gone. */
export function watchPeer(socket: TLSSocket): void {
  socket.setNoDelay(true);
  socket.setKeepAlive(true, KEEPALIVE_MS);
}

/** The key exchange that was negotiated, such as X25519MLKEM768, as its client sees it. */
export function groupOf(socket: TLSSocket): string {
  const info = socket.getEphemeralKeyInfo();
  return info !== null && 'name' in info && typeof info.name === 'string' ? info.name : 'unknown';
}
