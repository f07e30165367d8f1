import { TrustError } from '@virt-trust/base/error.ts';
import { listSettings, putSetting } from '@virt-trust/contract/manager/setting-operations.ts';
import type { Setting, SettingValue } from '@virt-trust/contract/model/setting.ts';
import type { Command } from 'commander';
import { given } from '../given.ts';
import { type ManagerClient, managerClient } from '../manager-client.ts';
import { writeJson, writeLine, writeNote, writeTable } from '../output.ts';
import { jsonOption } from './option.ts';

interface ScopeOptions {
  cluster?: string;
  host?: string;
  json?: boolean;
}

export function addSettingCommands(program: Command): void {
  const setting = program.command('setting').description('Settings, global or for a cluster or host');
  const scoped = (command: Command) =>
    command
      .option('--cluster <name>', 'as it holds for a cluster')
      .option('--host <name>', 'as it holds for a host')
      .addOption(jsonOption());
  scoped(setting.command('list').description('All settings with their effective values')).action(
    async (options: ScopeOptions) => {
      const items = await settingsOf(managerClient(), options);
      if (options.json === true) return writeJson(items);
      writeTable(
        ['name', 'value', 'from', 'type', 'for', 'what it is'],
        items.map((one) => [
          one.name,
          JSON.stringify(one.value),
          one.from,
          one.type,
          one.scopes.join(','),
          one.description,
        ]),
      );
    },
  );
  scoped(
    setting.command('get').description('One setting, with where its value comes from').argument('<name>'),
  ).action(async (name: string, options: ScopeOptions) => {
    print(find(await settingsOf(managerClient(), options), name), options);
  });
  scoped(
    setting
      .command('set')
      .description('Set a setting; without a value it is taken back')
      .argument('<name>')
      .argument('[value]'),
  ).action(async (name: string, value: string | undefined, options: ScopeOptions) => {
    const client = managerClient();
    const known = find(await settingsOf(client, options), name);
    const parsed = value === undefined ? null : parseAs(known.type, value);
    const changed = await client.call(putSetting, {
      params: { setting: name },
      query: scopeOf(options),
      body: { value: parsed },
    });
    print(changed, options);
    for (const warning of changed.warnings) writeNote(`warning: ${warning}`);
    if (options.json !== true) for (const id of changed.jobs) writeLine(`  virt-trust job watch ${id}`);
  });
}

function scopeOf({ cluster, host }: ScopeOptions): { cluster?: string; host?: string } {
  return given({ cluster, host });
}

async function settingsOf(client: ManagerClient, options: ScopeOptions): Promise<Setting[]> {
  return (await client.call(listSettings, { query: scopeOf(options) })).items;
}

function find(settings: readonly Setting[], name: string): Setting {
  const found = settings.find((one) => one.name === name);
  if (found === undefined)
    throw new TrustError('setting.unknown', 'not-found', `cannot find setting ${name}`, {
      hint: 'see them with: virt-trust setting list',
    });
  return found;
}

const BOOLEANS = new Map([
  ['true', true],
  ['on', true],
  ['false', false],
  ['off', false],
]);

/** Reads a value in the setting's type; the manager checks it. */
function parseAs(type: string, text: string): SettingValue {
  switch (type) {
    case 'list':
      return text === '' ? [] : text.split(',').map((item) => item.trim());
    case 'integer':
      // Flags are mostly written as in libvirt's header.
      return /^(?:-?\d{1,15}|0x[0-9a-f]{1,8})$/i.test(text) ? Number(text) : text;
    case 'boolean':
      return BOOLEANS.get(text) ?? text;
    default:
      return text;
  }
}

function print(setting: Setting, options: ScopeOptions): void {
  if (options.json === true) {
    writeJson(setting);
    return;
  }
  const { name, value, from, description, type, scopes, chain } = setting;
  writeLine(`${name} = ${JSON.stringify(value)} (from ${from})`);
  writeLine(`  ${description} Default: ${JSON.stringify(setting.default)}.`);
  writeLine(`  ${type}, for: ${scopes.join(', ')}`);
  for (const one of chain) {
    const place = one.target === '' ? one.scope : `${one.scope} ${one.target}`;
    const set = one.value === null ? 'not set' : JSON.stringify(one.value);
    writeLine(`  ${place}: ${set}${one.wins ? ', which wins' : ''}`);
  }
}
