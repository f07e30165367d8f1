import { TrustError } from '@virt-trust/base/error.ts';

/** One block of a PEM file (RFC 7468 §2): its label, its bytes and the line where it begins. */
export interface PemBlock {
  readonly label: string;
  readonly bytes: Uint8Array;
  readonly line: number;
}

/** How much of a PEM file is read at most. */
export interface PemLimits {
  readonly maxCharacters?: number;
  readonly maxBlocks?: number;
}

const BEGIN = /^-----BEGIN ([A-Z0-9][A-Z0-9 ]{0,62}[A-Z0-9])-----[ \t]*$/;
const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;
const MAX_LINE = 4096;

function malformed(line: number, reason: string): TrustError {
  return new TrustError('pem.malformed', 'invalid', `cannot read PEM: line ${line}: ${reason}`, {
    context: { line },
    hint: 'Give the file as text, from -----BEGIN to -----END, unchanged.',
  });
}

function decodeBody(lines: readonly string[], line: number): Uint8Array {
  const text = lines.join('');
  if (text.length % 4 !== 0 || !BASE64.test(text)) throw malformed(line, 'the block is not whole base64');
  const bytes = Buffer.from(text, 'base64');
  if (bytes.length === 0) throw malformed(line, 'the block is empty');
  // SECURITY: one text for one value; left-over bits in the last character are refused.
  if (bytes.toString('base64') !== text) throw malformed(line, 'the base64 has left-over bits');
  return bytes;
}

/** Every block of a PEM text, in its order; text around blocks is passed over; throws `pem.malformed`. */
export function decodePem(text: string, limits: PemLimits = {}): PemBlock[] {
  const maxCharacters = limits.maxCharacters ?? 1 << 20;
  const maxBlocks = limits.maxBlocks ?? 1000;
  if (text.length > maxCharacters) {
    throw new TrustError(
      'pem.too_large',
      'invalid',
      `cannot read PEM: ${text.length} characters, more than ${maxCharacters}`,
    );
  }
  const blocks: PemBlock[] = [];
  let open: { label: string; line: number; body: string[] } | undefined;
  const lines = text.split(/\r\n|\n|\r/);
  for (const [index, raw] of lines.entries()) {
    const number = index + 1;
    if (open === undefined) {
      if (raw.startsWith('-----END ')) throw malformed(number, 'an -----END line without its -----BEGIN');
      if (!raw.startsWith('-----BEGIN')) continue;
      const label = raw.length > MAX_LINE ? undefined : BEGIN.exec(raw)?.[1];
      if (label === undefined) throw malformed(number, 'not a -----BEGIN line');
      if (blocks.length >= maxBlocks) throw malformed(number, `more than ${maxBlocks} blocks`);
      open = { label, line: number, body: [] };
    } else if (raw.startsWith('-----')) {
      if (raw.trimEnd() !== `-----END ${open.label}-----`) {
        throw malformed(number, `-----END ${open.label}----- expected for the block of line ${open.line}`);
      }
      blocks.push({ label: open.label, bytes: decodeBody(open.body, open.line), line: open.line });
      open = undefined;
    } else {
      const line = raw.trim();
      if (line.includes(':')) throw malformed(number, 'encrypted or annotated blocks are not supported');
      open.body.push(line);
    }
  }
  if (open !== undefined) throw malformed(open.line, `the block has no -----END ${open.label}-----`);
  return blocks;
}

/** One PEM block with lines of 64 characters and a final newline (RFC 7468 §2). */
export function encodePem(label: string, bytes: Uint8Array): string {
  const base64 = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64');
  const lines: string[] = [];
  for (let offset = 0; offset < base64.length; offset += 64) lines.push(base64.slice(offset, offset + 64));
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}
