import type { Migration } from './migration.ts';

export const interfaces: Migration = {
  number: 8,
  name: 'interfaces',
  sql: `
-- Until now every service was on the management interface, and all that was declared the administrator had accepted.
update hosts set document = json_set(document,
  '$.declared.interfaces',
    case when document ->> '$.declared.interface' is null then json('[]')
      else json_array(json_object(
        'name', document ->> '$.declared.interface',
        'roles', json_array('management'),
        'names', json(document -> '$.declared.names')))
    end,
  '$.declared.refused', json('[]'),
  '$.word', json_object(
    'dns', json(document -> '$.declared.names.dns'),
    'accepted', json(document -> '$.declared.names.addresses'),
    'outside', json_object('dns', json('[]'), 'addresses', json('[]')),
    'interfaces', json_object()));
`,
};
