import { TrustError } from '@virt-trust/base/error.ts';
import { MINUTE, SECOND } from '@virt-trust/base/instant.ts';
import type { Setting, SettingValue } from '@virt-trust/contract/model/setting.ts';
import { parseSetting, type SettingDefinition } from './definition.ts';
import { isSettingName, SETTINGS, type SettingName, type ValueOf } from './definitions.ts';
import type { SettingPlace, SettingStore } from './setting-store.ts';

/** Whom a value is for: a host in its cluster, a cluster, or everybody. */
export interface SettingSubject {
  readonly cluster?: string | undefined;
  readonly host?: string | undefined;
}

/** The settings with their effective values: the host's, else its cluster's, else the global one, else the default. */
export class Settings {
  readonly #store: SettingStore;
  readonly #listeners: ((name: SettingName, place: SettingPlace) => void)[] = [];

  constructor(store: SettingStore) {
    this.#store = store;
  }

  /** Tells of each change once it is kept. */
  onChange(listener: (name: SettingName, place: SettingPlace) => void): void {
    this.#listeners.push(listener);
  }

  /** Settings were carried to another name in the store. */
  reread(): void {
    this.#store.reread();
  }

  /** The effective value. */
  async value<Name extends SettingName>(name: Name, subject: SettingSubject = {}): Promise<ValueOf<Name>> {
    const { value } = await this.#effective(name, subject);
    return value as ValueOf<Name>;
  }

  /** The effective value with where it comes from. */
  async explain(name: SettingName, subject: SettingSubject = {}): Promise<Setting> {
    const definition: SettingDefinition<never> = SETTINGS[name] as never;
    const { value, from, chain } = await this.#effective(name, subject);
    const { default: fallback, description, type, scopes } = definition;
    return { name, value, default: fallback, from, description, type, scopes: [...scopes], chain };
  }

  async list(subject: SettingSubject = {}): Promise<Setting[]> {
    const names = Object.keys(SETTINGS).filter(isSettingName).sort();
    return Promise.all(names.map((name) => this.explain(name, subject)));
  }

  /** Sets a value, or with null takes it back; returns the setting's name. */
  async put(
    name: string,
    value: SettingValue | null,
    place: SettingPlace,
    actor: string,
  ): Promise<SettingName> {
    if (!isSettingName(name)) throw unknownSetting(name);
    const definition: SettingDefinition<SettingValue> = SETTINGS[name] as never;
    if (!definition.scopes.includes(place.scope)) {
      throw new TrustError(
        'setting.scope',
        'invalid',
        `cannot set ${name} for a ${place.scope}: it holds for ${definition.scopes.join(', ')} only`,
        {
          hint: `set it ${definition.scopes[0] === 'global' ? 'without --cluster and --host' : `for a ${definition.scopes.join(' or ')}`}`,
        },
      );
    }
    const parsed = value === null ? null : parseSetting(name, definition, value);
    await this.#checkTogether(name, parsed ?? definition.default);
    const where = place.scope === 'global' ? 'global' : `${place.scope} ${place.target}`;
    const detail = parsed === null ? `${where}: taken back` : `${where}: ${JSON.stringify(parsed)}`;
    const audit = { actor, action: 'setting.put', subject: name, outcome: 'done', detail } as const;
    if (parsed === null) await this.#store.delete(place, name, audit);
    else await this.#store.put(place, name, parsed, audit);
    for (const listener of this.#listeners) listener(name, place);
    return name;
  }

  /**
   * Takes back all that was set for a host that is about to be forgotten, so that another one of its name begins without;
   * returns the settings' names. Nobody is told: nothing follows from it for a host that goes.
   */
  forgetHost(host: string, actor: string): Promise<string[]> {
    const outcome = { action: 'setting.put', outcome: 'done' } as const;
    const detail = `host ${host}: taken back, the host is removed`;
    return this.#store.clear({ scope: 'host', target: host }, (name) => {
      return { ...outcome, actor, subject: name, detail };
    });
  }

  async #effective(name: SettingName, subject: SettingSubject) {
    const definition: SettingDefinition<SettingValue> = SETTINGS[name] as never;
    const places: SettingPlace[] = [];
    if (subject.host !== undefined) places.push({ scope: 'host', target: subject.host });
    if (subject.cluster !== undefined) places.push({ scope: 'cluster', target: subject.cluster });
    places.push({ scope: 'global', target: '' });
    const chain: Setting['chain'] = [];
    for (const { scope, target } of places)
      chain.push({
        scope,
        target,
        value: (await this.#store.get({ scope, target }, name)) ?? null,
        wins: false,
      });
    chain.push({ scope: 'default', target: '', value: definition.default, wins: false });
    const winner = chain.find(({ value }) => value !== null);
    if (winner !== undefined) winner.wins = true;
    return { value: winner?.value ?? definition.default, from: winner?.scope ?? 'default', chain };
  }

  /** What must hold between settings: a certificate made now is valid on every host whose clock is let through. */
  async #checkTogether(name: SettingName, value: SettingValue): Promise<void> {
    const after = async <Name extends SettingName>(other: Name): Promise<ValueOf<Name>> =>
      name === other ? (value as ValueOf<Name>) : this.value(other);
    const backdate = (await after('certificate.backdate_minutes')) * MINUTE;
    const skew = (await after('clock.allowed_skew_seconds')) * SECOND;
    if (skew <= backdate) return;
    throw new TrustError(
      'setting.invalid',
      'invalid',
      `cannot set ${name}: clock.allowed_skew_seconds (${skew / SECOND} s) would be more than certificate.backdate_minutes (${backdate / SECOND} s)`,
      { hint: 'raise certificate.backdate_minutes first, or lower clock.allowed_skew_seconds first' },
    );
  }
}

function unknownSetting(name: string): TrustError {
  return new TrustError(
    'setting.unknown',
    'not-found',
    `cannot find setting ${JSON.stringify(name.slice(0, 80))}`,
    {
      hint: 'virt-trust setting list shows every setting',
    },
  );
}
