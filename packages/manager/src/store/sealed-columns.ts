/** A column that holds sealed values; the row of their place is the text of `key`. */
export interface SealedColumn {
  readonly table: string;
  readonly key: string;
  readonly column: string;
}

/** Every sealed column of the schema: what is not listed here is lost when the seal key is rotated. */
export const SEALED_COLUMNS: readonly SealedColumn[] = [
  { table: 'seal_check', key: 'id', column: 'value' },
  { table: 'authorities', key: 'name', column: 'sealed_root_key' },
  { table: 'authorities', key: 'name', column: 'sealed_issuing_key' },
  { table: 'manager_identities', key: 'pin', column: 'sealed_key' },
  { table: 'webhook', key: 'id', column: 'sealed_secret' },
];
