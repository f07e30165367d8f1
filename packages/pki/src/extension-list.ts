import { type DerReader, TAG } from './der/reader.ts';

/** One extension as it stands in its list, its value not read yet. */
interface ListedExtension {
  readonly oid: string;
  readonly critical: boolean;
  readonly value: DerReader;
}

/**
 * RFC 5280 §4.1: the next extension of a list, of a certificate, a CRL, an entry of one or an OCSP message. Its OID is
 * added to `seen`, which no second one may repeat (§4.2) and which has `most` at most; throws `der.*`.
 */
export function readListedExtension(list: DerReader, seen: string[], most: number): ListedExtension {
  if (seen.length >= most) list.fail(`more than ${most} extensions`);
  const entry = list.sequence();
  const oid = entry.oid();
  if (seen.includes(oid)) entry.fail(`extension ${oid} twice`);
  seen.push(oid);
  // DER leaves out a FALSE; widespread issuers write it, and it means the same.
  const critical = entry.nextIs(TAG.boolean) ? entry.boolean() : false;
  const value = entry.enter(TAG.octetString);
  entry.finish();
  return { oid, critical, value };
}
