import type { SubjectAltNames } from '@virt-trust/contract/model/desired-state.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';

/** What one service of a host shall be known by: the names of all its endpoints. */
export interface DeclaredService {
  readonly commonName: string;
  readonly names: SubjectAltNames;
}

/**
 * What a host was declared with: the administrator's word, and of what its agent reports only that which the settings let
 * in.
 */
export interface DeclaredHost {
  readonly name: string;
  readonly cluster: string;
  readonly names: SubjectAltNames;
  readonly services: Readonly<Partial<Record<Service, DeclaredService>>>;
}

/** Where issuance learns which names a host has; the hosts' side of it makes sure that no two hosts have one name. */
export interface DeclaredNames {
  /** The host with that name, or null where there is none. */
  find(host: string): Promise<DeclaredHost | null>;
}
