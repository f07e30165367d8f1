import type { Brand } from './brand.ts';
import { TrustError } from './error.ts';

/** The identifier that the manager gave a host, a lower-case UUID. */
export type HostId = Brand<string, 'HostId'>;

const FORM = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** True for a lower-case UUID. */
function isHostId(value: unknown): value is HostId {
  return typeof value === 'string' && FORM.test(value);
}

/** Parses a host's identifier; throws `host.id_malformed`. */
export function parseHostId(text: string): HostId {
  if (!isHostId(text)) {
    throw new TrustError(
      'host.id_malformed',
      'invalid',
      `cannot read host identifier ${JSON.stringify(text.slice(0, 60))}: not a UUID`,
    );
  }
  return text;
}
