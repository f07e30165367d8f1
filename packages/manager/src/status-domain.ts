import type { Core } from './core.ts';
import { type StatusHandler, statusHandler } from './http/status-http.ts';
import type { IssuanceDomain } from './issuance-domain.ts';
import { CrlPublication } from './status/crl-publication.ts';
import { OcspResponder } from './status/ocsp-responder.ts';
import { ResponderSigners } from './status/responder-signers.ts';
import type { StatusSource } from './status/status-source.ts';

/** Puts the publication of CRLs and the OCSP responder on what revocation knows. */
export function composeStatus(
  core: Core,
  { authorities, issuance }: IssuanceDomain,
  source: StatusSource,
): StatusHandler {
  const { clock, log, metrics } = core;
  const signers = new ResponderSigners({ issuance, clock, log });
  return statusHandler({
    responder: new OcspResponder({ authorities, source, signers, clock, log }),
    crls: new CrlPublication(authorities, source),
    clock,
    log,
    answers: metrics.counter(
      'virt_trust_ocsp_answers_total',
      'OCSP answers: signed once for many, for one request alone, and errors.',
    ),
  });
}
