import { TrustError } from '@virt-trust/base/error.ts';

/** The session of a request ended under it. */
export function cutError(cause: unknown): TrustError {
  const message = 'cannot keep the channel: the agent or the network ended it';
  return new TrustError('channel.cut', 'unavailable', message, { cause });
}

/** There is no session, for the reason that the last dial had. */
export function downError(reason: TrustError): TrustError {
  return new TrustError('channel.down', 'unavailable', 'cannot reach the agent: the channel is down', {
    cause: reason,
    ...(reason.hint === undefined ? {} : { hint: reason.hint }),
  });
}

/** Nobody dials any more. */
export function closedError(): TrustError {
  return new TrustError('channel.closed', 'unavailable', 'cannot use the channel: it was closed');
}
