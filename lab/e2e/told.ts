/** What an operator is told of something that did not work. */
export interface Told {
  readonly code: string;
  readonly message: string;
  readonly hint: string;
}

/** What a piece of work that must fail says; throws where it does not fail. */
export async function toldBy(work: Promise<unknown>): Promise<Told> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof Error)) throw new Error('it did not fail');
  // The error of a job that failed is the cause of what the fleet throws.
  const job = error.cause as Partial<Told> | undefined;
  const {
    code = '',
    message = '',
    hint = '',
  } = typeof job?.code === 'string' ? job : (error as Partial<Told>);
  return { code, message, hint };
}
