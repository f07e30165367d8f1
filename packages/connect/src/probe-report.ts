import type { PresentedByServer } from './tls-handshake.ts';

/** Why a connection would not come about; `detail` says it in full. */
export type ProbeReason =
  /** Nobody is there, or nobody answers. */
  | 'not_listening'
  | 'no_answer'
  | 'host_unknown'
  | 'no_route'
  /** Something else is there: without TLS, libvirt without TLS, VNC without TLS, or not what was asked for. */
  | 'not_tls'
  | 'plain_tcp'
  | 'no_tls_offered'
  | 'wrong_protocol'
  /** The client refuses the server's certificate. */
  | 'name'
  | 'chain'
  | 'date'
  | 'revoked'
  | 'wrong_purpose'
  | 'no_server_certificate'
  /** The client refuses to start with its own files. */
  | 'own_ca'
  | 'own_crl'
  | 'own_key'
  | 'own_date'
  | 'own_wrong_purpose'
  | 'own_chain'
  | 'own_files'
  /** The server refuses the client. */
  | 'no_client_certificate'
  | 'client_date'
  | 'client_chain'
  | 'client_revoked'
  | 'client_wrong_purpose'
  | 'client_refused'
  | 'server_closed'
  | 'server_error'
  | 'handshake';

/** What could be behind a refusal by the server, which tells no client why. */
export interface PossibleCause {
  readonly reason: ProbeReason | 'dn_list' | 'server_clock';
  /** `seen`: visible from here too. `excluded`: it can not be, as seen from here. */
  readonly standing: 'seen' | 'possible' | 'excluded';
  readonly detail: string;
}

/** What came of a probe: accepted by both, or who refused whom and why. */
export interface ProbeReport extends Partial<Omit<PresentedByServer, 'served'>> {
  readonly outcome: 'accepted' | 'refused' | 'unreachable';
  readonly side: 'client' | 'server' | null;
  readonly reason: ProbeReason | null;
  /** The condition in our own words' code, `peer.name_mismatch`. */
  readonly code: string | null;
  readonly detail: string;
  readonly hint: string | null;
  readonly causes: readonly PossibleCause[];
  readonly served: PresentedByServer['served'] | null;
  /** What else is worth knowing: what of the URI was passed over, warnings of the client's own files. */
  readonly notes: readonly string[];
}

export const HINTS: Readonly<Record<ProbeReason, string>> = {
  not_listening:
    'the host answers and nothing listens on that port: look there with ss -ltn, and whether the TLS socket is enabled (libvirtd-tls.socket, virtproxyd-tls.socket; for VNC and SPICE: virsh domdisplay)',
  no_answer: 'look whether the host is up and whether a firewall between here and there drops the port',
  host_unknown: 'look at the name in the URI, and at DNS or /etc/hosts here',
  no_route: 'look at the network between here and the host',
  not_tls: 'look which port it is: what listens there does not speak TLS',
  plain_tcp: 'libvirt listens there without TLS: use qemu+tcp:// for it, or the TLS port (16514)',
  no_tls_offered:
    'set vnc_tls = 1 in qemu.conf on the host; VMs that run have TLS once they are restarted or migrated',
  wrong_protocol: 'look which port it is: something else listens there',
  name: 'use a name or address that the certificate has, or have it issued with this one',
  chain:
    "put the authority that issued the server's certificate, with its intermediates, into the client's CA file; or look who answers at that address",
  date: "renew the server's certificate and have the daemon load it; or look at the clock here",
  revoked:
    "the server's certificate is on the CRL here: have another one issued; while it is served, do not trust that host",
  wrong_purpose: 'have the certificate issued for a TLS server (extendedKeyUsage serverAuth)',
  no_server_certificate: 'give the server a certificate',
  own_ca: 'put the authority to trust into the CA file named above',
  own_crl: 'replace the CRL named above, or take it away',
  own_key: "put the certificate's own key beside it, readable for you",
  own_date: 'renew the file named above; libvirt looks at every certificate of the CA file too',
  own_wrong_purpose: 'have the client certificate issued for a TLS client (extendedKeyUsage clientAuth)',
  own_chain: 'put the authority of the client certificate into the CA file named above',
  own_files: 'mend the file named above',
  no_client_certificate:
    'the server demands a client certificate: put certificate and key where the client looks',
  client_date: 'renew the client certificate; or look at the clock of the server',
  client_chain: "have the client certificate issued by an authority that the server's CA file holds",
  client_revoked: 'the client certificate was revoked: have another one issued',
  client_wrong_purpose: 'have the client certificate issued for a TLS client (extendedKeyUsage clientAuth)',
  client_refused:
    "only the server's log says why: journalctl -u libvirtd (or virtproxyd) there, or the VM's log below /var/log/libvirt/qemu",
  server_closed: "look at the server's log",
  server_error: "look at the server's log",
  handshake: "look at the server's log, and at tls_priority on both sides",
};
