import { isTrustError } from '@virt-trust/base/error.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { Checker } from '@virt-trust/libvirt/checker.ts';
import type { JudgedSet } from '@virt-trust/libvirt/own-set.ts';
import { formatDistinguishedName, verifyPeer } from '@virt-trust/libvirt/session.ts';
import type { PossibleCause, ProbeReason } from './probe-report.ts';

/** The reason that a code of the check stands for, by whoever's certificate it is. */
const REASONS: Readonly<Record<string, 'date' | 'revoked' | 'wrong_purpose' | 'name'>> = {
  expired: 'date',
  not_yet_valid: 'date',
  revoked: 'revoked',
  purpose: 'wrong_purpose',
  key_usage: 'wrong_purpose',
  key_encipherment: 'wrong_purpose',
  is_authority: 'wrong_purpose',
  name_mismatch: 'name',
};

/** `peer.expired` and `chain.expired` are `date`; what of a chain is none of the others is `chain`. */
export function reasonOf(code: string): 'date' | 'revoked' | 'wrong_purpose' | 'name' | 'chain' {
  return REASONS[code.replace(/^[a-z]+\./, '')] ?? 'chain';
}

/**
 * Why a server may have refused the client's certificate. With TLS 1.3 it closes the connection after the handshake and
 * tells nothing, so what it looks at is looked at from here; only what is on its own disk can not be.
 */
export function causesOfRefusal(parts: {
  /** As loaded; undefined where the client had none to show. */
  readonly own: JudgedSet | undefined;
  readonly checker: Checker;
  readonly at: Instant;
}): readonly PossibleCause[] {
  const { own, checker, at } = parts;
  const [leaf] = own?.certificates ?? [];
  if (own === undefined || leaf === undefined)
    return [{ reason: 'no_client_certificate', standing: 'seen', detail: 'the client had none to show' }];
  const subject = formatDistinguishedName(leaf);
  const causes: PossibleCause[] = [];
  const seen = judge(own, checker, at);
  if (seen !== undefined) causes.push(seen);
  const add = (reason: PossibleCause['reason'], standing: PossibleCause['standing'], detail: string) => {
    if (!causes.some((cause) => cause.reason === reason)) causes.push({ reason, standing, detail });
  };
  add('no_client_certificate', 'excluded', `the client showed ${subject}`);
  if (seen === undefined) {
    add('client_date', 'excluded', 'it is valid by the clock here');
    add('client_wrong_purpose', 'excluded', 'it is for a TLS client');
  }
  add(
    'client_chain',
    'possible',
    `the server may trust other authorities than the CA file here, in which its issuer is`,
  );
  add('client_revoked', 'possible', 'the server may have a CRL that is not here');
  add('dn_list', 'possible', `tls_allowed_dn_list of the server may leave out ${subject}`);
  add('server_clock', 'possible', "the server's clock may be wrong");
  return causes;
}

/** As the server would judge it, were its CA and CRL those that are here. */
function judge(own: JudgedSet, checker: Checker, at: Instant): PossibleCause | undefined {
  try {
    verifyPeer({
      role: 'client',
      presented: own.certificates,
      trusted: own.authorities,
      crls: own.crls,
      at,
      checker,
    });
    return undefined;
  } catch (error) {
    if (!isTrustError(error)) throw error;
    const reason = `client_${reasonOf(error.code)}` as ProbeReason;
    return { reason, standing: 'seen', detail: error.message.replace(/^cannot trust [^:]*: /, '') };
  }
}
