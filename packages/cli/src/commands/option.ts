import { InvalidArgumentError, Option } from 'commander';

/** The option that every answering command has. */
export function jsonOption(): Option {
  return new Option('--json', 'answer in JSON');
}

export function yesOption(): Option {
  return new Option('-y, --yes', 'do not ask');
}

/** Repeats of an option, in order. */
export function collect(value: string, previous: readonly string[] = []): string[] {
  return [...previous, value];
}

/** A whole number between two bounds. */
export function integerBetween(minimum: number, maximum: number): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (!/^\d{1,15}$/.test(value) || number < minimum || number > maximum) {
      throw new InvalidArgumentError(`It must be a whole number from ${minimum} to ${maximum}.`);
    }
    return number;
  };
}
