import type { SettingScope, SettingValue } from '@virt-trust/contract/model/setting.ts';
import type { AuditDraft } from '../audit/audit-entry.ts';

/** Where a value is set: everywhere, or for the cluster or host of that name. */
export interface SettingPlace {
  readonly scope: SettingScope;
  /** The cluster's or host's name; empty for the global scope. */
  readonly target: string;
}

/** Where settings are kept. */
export interface SettingStore {
  get(place: SettingPlace, name: string): Promise<SettingValue | undefined>;
  put(place: SettingPlace, name: string, value: SettingValue, audit: AuditDraft): Promise<void>;
  delete(place: SettingPlace, name: string, audit: AuditDraft): Promise<void>;
  /** Takes back all that is set at a place, each with its audit entry; returns their names. */
  clear(place: SettingPlace, audit: (name: string) => AuditDraft): Promise<string[]>;
  /** Forgets what it has in memory: the store was written beside it. */
  reread(): void;
}
