import { isIP } from 'node:net';
import { TrustError } from '@virt-trust/base/error.ts';
import { DISPLAY_PORT_MIN, LIBVIRT_TLS_PORT } from '@virt-trust/libvirt/layout.ts';

interface Place {
  /** The name or address that is dialled, and that the certificate must have. */
  readonly host: string;
  readonly port: number;
}

/** What is to be probed, with what the URI says of how. */
export type ProbeUri =
  | (Place & {
      readonly kind: 'libvirt';
      readonly pkipath: string | undefined;
      /** `no_verify=1`: the server's certificate is not looked at. */
      readonly verify: boolean;
      /** `no_sanity=1`: the client's own certificate is not looked at. */
      readonly sanity: boolean;
      readonly tlsPriority: string | undefined;
    })
  | (Place & { readonly kind: 'vnc' })
  | (Place & { readonly kind: 'spice'; readonly hostSubject: string | undefined });

/** Reads a URI as libvirt's remote driver, virt-viewer and spice-gtk write it; throws `probe.uri`. */
export function parseProbeUri(uri: string): ProbeUri {
  const url = URL.parse(uri);
  const host = (url?.hostname ?? '').replace(/^\[|\]$/g, '');
  if (url === null || host === '' || (isIP(host) === 0 && !/^[A-Za-z0-9._-]{1,253}$/.test(host)))
    throw unknownUri(uri);
  const parameters = url.searchParams;
  const port = (otherwise: number) => (url.port === '' ? otherwise : Number(url.port));
  if (/^[a-z]+\+tls:$/.test(url.protocol) && url.protocol !== 'spice+tls:') {
    return {
      kind: 'libvirt',
      host,
      port: port(LIBVIRT_TLS_PORT),
      pkipath: parameters.get('pkipath') ?? undefined,
      verify: !isSet(parameters.get('no_verify')),
      sanity: !isSet(parameters.get('no_sanity')),
      tlsPriority: parameters.get('tls_priority') ?? undefined,
    };
  }
  if (url.protocol === 'vnc:') return { kind: 'vnc', host, port: port(DISPLAY_PORT_MIN) };
  const tlsPort = url.protocol === 'spice+tls:' ? url.port : parameters.get('tls-port');
  if (
    !/^spice(?:\+tls)?:$/.test(url.protocol) ||
    !/^\d{1,5}$/.test(tlsPort ?? '') ||
    Number(tlsPort) > 65_535
  )
    throw unknownUri(uri);
  return {
    kind: 'spice',
    host,
    port: Number(tlsPort),
    hostSubject: parameters.get('host-subject') ?? undefined,
  };
}

/** virURI arguments that are numbers: anything but 0 sets them. */
function isSet(value: string | null): boolean {
  return value !== null && Number(value) !== 0;
}

function unknownUri(uri: string): TrustError {
  return new TrustError(
    'probe.uri',
    'invalid',
    `cannot probe ${uri}: neither qemu+tls://HOST/system nor vnc://HOST:PORT nor spice://HOST?tls-port=PORT`,
  );
}
