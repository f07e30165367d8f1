import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';

/** What was seen at a place that serves TLS. */
export type Seen =
  | { readonly kind: 'key'; readonly pin: SpkiPin; readonly detail: string }
  /** A server that was started without TLS. */
  | { readonly kind: 'plain' }
  | { readonly kind: 'nothing'; readonly reason: string };

/** What is looked at, and whom VNC's certificate is expected to be from. */
export interface Where {
  readonly services: readonly Service[];
  /** Of each service's endpoints. */
  readonly addresses: Readonly<Partial<Record<Service, readonly string[]>>>;
  readonly consoleBundle: string;
}

/** One look at one place. */
export interface Sighting {
  readonly service: Service;
  /** `192.0.2.1:16514`, `VM guest 127.0.0.1:5900`. */
  readonly target: string;
  /** Whose server it is. */
  readonly vm: { readonly uuid: string; readonly name: string } | null;
  /** Whether it reads the served generation when it is told to; else it goes on with what it was started with. */
  readonly reloads: boolean;
  readonly seen: Seen;
}
