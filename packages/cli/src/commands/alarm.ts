import { TrustError } from '@virt-trust/base/error.ts';
import { acknowledgeAlarm, getAlarm, listAlarms } from '@virt-trust/contract/manager/alarm-operations.ts';
import type { Alarm } from '@virt-trust/contract/model/alarm.ts';
import type { Command } from 'commander';
import { writeAlarmDetail, writeAlarms } from '../alarm-view.ts';
import { everyPage } from '../every-page.ts';
import { given } from '../given.ts';
import { requireKnownHost } from '../known-host.ts';
import { type ManagerClient, managerClient } from '../manager-client.ts';
import { writeJson } from '../output.ts';
import { jsonOption } from './option.ts';

export function addAlarmCommands(program: Command): void {
  const alarm = program.command('alarm').description("What wants a person's eye, and what to do about it");
  alarm
    .command('list')
    .description('The open alarms, newest first')
    .option('--host <name>', 'of one host')
    .option('--all', 'with those that were cleared')
    .addOption(jsonOption())
    .action(async (options: { host?: string; all?: boolean; json?: boolean }) => {
      const client = managerClient();
      const alarms = await alarmsOf(client, options);
      await requireKnownHost(client, options.host, alarms);
      if (options.json === true) writeJson(alarms);
      else writeAlarms(alarms);
    });
  alarm
    .command('show')
    .description('One alarm: what happened, and what to do')
    .argument('<id>', 'its id, or how it begins')
    .addOption(jsonOption())
    .action(async (id: string, options: { json?: boolean }) => {
      const client = managerClient();
      print(await client.call(getAlarm, { params: { id: await wholeId(client, id) } }), options);
    });
  alarm
    .command('ack')
    .description('Say that somebody has seen to it; it stays until its cause is gone')
    .argument('<id>', 'its id, or how it begins')
    .addOption(jsonOption())
    .action(async (id: string, options: { json?: boolean }) => {
      const client = managerClient();
      print(await client.call(acknowledgeAlarm, { params: { id: await wholeId(client, id) } }), options);
    });
}

function alarmsOf(client: ManagerClient, options: { host?: string; all?: boolean }): Promise<Alarm[]> {
  const query = given({ host: options.host, cleared: options.all });
  return everyPage((page) => client.call(listAlarms, { query: { ...page, ...query } }));
}

/** The id that begins so, of all alarms; what is no beginning of one is asked for as it is. */
async function wholeId(client: ManagerClient, text: string): Promise<string> {
  const beginning = text.toLowerCase();
  if (!/^[0-9a-f][0-9a-f-]{3,34}$/.test(beginning)) return beginning;
  const found = (await alarmsOf(client, { all: true })).filter((one) => one.id.startsWith(beginning));
  if (found.length === 1 && found[0] !== undefined) return found[0].id;
  throw new TrustError(
    'alarm.unknown',
    'not-found',
    found.length === 0
      ? `cannot find an alarm whose id begins with ${beginning}`
      : `cannot tell which alarm is meant: ${found.length} ids begin with ${beginning}`,
    { hint: 'see them with: virt-trust alarm list --all' },
  );
}

function print(alarm: Alarm, options: { json?: boolean }): void {
  if (options.json === true) writeJson(alarm);
  else writeAlarmDetail(alarm);
}
