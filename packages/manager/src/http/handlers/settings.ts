import { TrustError } from '@virt-trust/base/error.ts';
import type { SettingChange } from '@virt-trust/contract/model/setting.ts';
import type { SettingName } from '../../settings/definitions.ts';
import type { SettingPlace } from '../../settings/setting-store.ts';
import type { SettingSubject, Settings } from '../../settings/settings.ts';
import type { Handlers } from '../handlers.ts';

interface Scope {
  readonly cluster?: string;
  readonly host?: string;
}

/** What the rest of the manager makes of a setting that was put. */
export type SettingPut = (
  name: SettingName,
  place: SettingPlace,
  actor: string,
) => Promise<Pick<SettingChange, 'warnings' | 'jobs'>>;

/** Settings; `clusterOf` throws for a host that is not known. */
export function settingHandlers(
  settings: Settings,
  clusterOf: (host: string) => Promise<string>,
  onPut: SettingPut,
): Pick<Handlers, 'listSettings' | 'putSetting'> {
  const subjectOf = async ({ cluster, host }: Scope): Promise<SettingSubject> => {
    if (cluster !== undefined && host !== undefined) {
      throw new TrustError(
        'setting.scope',
        'invalid',
        'cannot choose the scope: both a cluster and a host are given',
        {
          hint: 'give the host alone: it is in one cluster',
        },
      );
    }
    return host === undefined ? { cluster } : { host, cluster: await clusterOf(host) };
  };
  return {
    listSettings: async ({ query }) => ({ items: await settings.list(await subjectOf(query ?? {})) }),
    putSetting: async ({ params, query, body, actor }) => {
      const subject = await subjectOf(query ?? {});
      const place = placeOf(subject);
      const name = await settings.put(params.setting, body.value, place, actor.auditName);
      const { warnings, jobs } = await onPut(name, place, actor.auditName);
      return { ...(await settings.explain(name, subject)), warnings, jobs };
    },
  };
}

function placeOf({ cluster, host }: SettingSubject): SettingPlace {
  if (host !== undefined) return { scope: 'host', target: host };
  return cluster === undefined ? { scope: 'global', target: '' } : { scope: 'cluster', target: cluster };
}
