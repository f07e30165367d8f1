/** One step of the schema, forward only; once released its text never changes. */
export interface Migration {
  readonly number: number;
  readonly name: string;
  readonly sql: string;
}
