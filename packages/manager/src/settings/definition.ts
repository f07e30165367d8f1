import { formatDuration, parseDuration } from '@virt-trust/base/duration.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import type { SettingScope, SettingValue } from '@virt-trust/contract/model/setting.ts';

/** What a setting is: its default, its form and where it may be set. */
export interface SettingDefinition<Value extends SettingValue> {
  readonly default: Value;
  readonly description: string;
  /** `boolean`, `integer`, `text`, `list` or `duration`. */
  readonly type: string;
  readonly scopes: readonly SettingScope[];
  /** The value, or the reason why it can't be one. */
  parse(value: SettingValue): { value: Value } | { problem: string };
}

export const EVERYWHERE: readonly SettingScope[] = ['global', 'cluster', 'host'];
export const GLOBAL: readonly SettingScope[] = ['global'];

type Common<Value extends SettingValue> = Omit<SettingDefinition<Value>, 'parse' | 'type'>;

/** On or off. */
export function booleanSetting(common: Common<boolean>): SettingDefinition<boolean> {
  return {
    ...common,
    type: 'boolean',
    parse: (value) => (typeof value === 'boolean' ? { value } : { problem: 'not true or false (on or off)' }),
  };
}

/** A whole number between two bounds; `whyNot` has what is against one of them, null for nothing. */
export function integerSetting(
  common: Common<number> & {
    readonly minimum: number;
    readonly maximum: number;
    readonly whyNot?: (value: number) => string | null;
  },
): SettingDefinition<number> {
  const { minimum, maximum, whyNot = () => null, ...rest } = common;
  return {
    ...rest,
    type: 'integer',
    parse: (value) => {
      if (typeof value !== 'number' || !Number.isInteger(value) || value < minimum || value > maximum)
        return { problem: `not a whole number from ${minimum} to ${maximum}` };
      const problem = whyNot(value);
      return problem === null ? { value } : { problem };
    },
  };
}

/** A length of time as text, such as `180d`, between two bounds in milliseconds; read it with `parseDuration`. */
export function durationSetting(
  common: Common<string> & { readonly minimum: number; readonly maximum: number },
): SettingDefinition<string> {
  const { minimum, maximum, ...rest } = common;
  return {
    ...rest,
    type: 'duration',
    parse: (value) => {
      const duration = typeof value === 'string' ? parseDuration(value) : undefined;
      return duration !== undefined && duration >= minimum && duration <= maximum
        ? { value: value as string }
        : {
            problem: `not a duration from ${formatDuration(minimum)} to ${formatDuration(maximum)}, written like 5m, 12h, 180d or 2y`,
          };
    },
  };
}

/** A text of a form, which `form` says in words. */
export function textSetting<Value extends string>(
  common: Common<Value> & { readonly is: (value: string) => value is Value; readonly form: string },
): SettingDefinition<Value> {
  const { is, form, ...rest } = common;
  return {
    ...rest,
    type: 'text',
    parse: (value) => (typeof value === 'string' && is(value) ? { value } : { problem: `not ${form}` }),
  };
}

/** A list of texts of a form, each once. */
export function listSetting(
  common: Common<string[]> & {
    readonly is: (value: string) => boolean;
    readonly form: string;
    readonly minItems: number;
  },
): SettingDefinition<string[]> {
  const { is, form, minItems, ...rest } = common;
  return {
    ...rest,
    type: 'list',
    parse: (value) => {
      if (!Array.isArray(value) || value.length < minItems || value.length > 64) {
        return { problem: `not a list of ${minItems} to 64 entries` };
      }
      const bad = value.find((entry) => !is(entry));
      if (bad !== undefined) return { problem: `${JSON.stringify(bad)} is not ${form}` };
      const again = value.find((entry, index) => value.indexOf(entry) !== index);
      return again === undefined
        ? { value: [...value] }
        : { problem: `${JSON.stringify(again)} is there more than once` };
    },
  };
}

/** A list of entries of which each is parsed by itself, into the one form that it is kept in. */
export function entriesSetting(
  common: Common<string[]> & {
    readonly entry: (text: string) => { readonly value: string } | { readonly problem: string };
  },
): SettingDefinition<string[]> {
  const { entry, ...rest } = common;
  return {
    ...rest,
    type: 'list',
    parse: (value) => {
      if (!Array.isArray(value) || value.length > 64) return { problem: 'not a list of 0 to 64 entries' };
      const entries: string[] = [];
      for (const text of value) {
        const parsed = entry(text);
        if ('problem' in parsed)
          return { problem: `${JSON.stringify(text.slice(0, 80))} is ${parsed.problem}` };
        if (entries.includes(parsed.value)) return { problem: `${JSON.stringify(text)} is there twice` };
        entries.push(parsed.value);
      }
      return { value: entries };
    },
  };
}

/** The value in the setting's own type; throws `setting.invalid`. */
export function parseSetting<Value extends SettingValue>(
  name: string,
  definition: SettingDefinition<Value>,
  value: SettingValue,
): Value {
  const parsed = definition.parse(value);
  if ('value' in parsed) return parsed.value;
  throw new TrustError('setting.invalid', 'invalid', `cannot set ${name}: ${parsed.problem}`, {
    hint: definition.description,
  });
}
