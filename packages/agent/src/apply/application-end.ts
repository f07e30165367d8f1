import type { Journal } from '../sets/apply-state.ts';

/** The event that says how a journal ended, about the host; undefined for a removal, which says so itself. */
export function endOf({
  kind,
  desired,
  restored,
  left,
}: Journal): { kind: string; message: string } | undefined {
  if (desired === null) return undefined;
  const which = `desired state ${desired.epoch}.${desired.number}`;
  switch (kind) {
    case 'removing':
      return undefined;
    case 'switching-off': {
      const remains = left.length === 0 ? '' : `; left: ${left.join('; ')}`;
      const message = `${which} holds: TLS is off, ${restored.length} paths are as they were found${remains}`;
      return { kind: 'apply.settled', message: message.slice(0, 4000) };
    }
    case 'applying':
      return { kind: 'apply.settled', message: `${which} holds` };
    case 'going-back':
      return { kind: 'apply.went_back', message: `${which} was given up; the state before it is back` };
  }
}
