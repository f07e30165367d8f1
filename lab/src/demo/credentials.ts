import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import {
  type Credentials,
  credentialsFile,
  saveCredentials,
  savedCredentials,
} from '@virt-trust/cli/credentials.ts';
import { managerClient } from '@virt-trust/cli/manager-client.ts';
import { getWhoAmI } from '@virt-trust/contract/manager/self-operations.ts';
import { labDirectory } from '../paths.ts';

const SAVED_BY = 'npm start';

/** Where the demo keeps a copy of its token, in the form of a user's configuration. */
export function configHome(lab: string): string {
  return join(labDirectory(lab), 'config');
}

/** The state of the demo's manager: beside the hosts that know it, so that both go together. */
export function managerDirectory(lab: string): string {
  return join(labDirectory(lab), 'manager');
}

/**
 * The token of an earlier start. Without one, what the manager had is thrown away: the token is kept before anything
 * is asked of a manager, so one whose token is not there was killed before it knew any host.
 */
export async function keptToken(lab: string): Promise<string | undefined> {
  const kept = savedCredentials(credentialsFile(configHome(lab)));
  if (kept === undefined) await rm(managerDirectory(lab), { recursive: true, force: true });
  return kept?.token;
}

/** Keeps the token for the next start, and throws `start.token_refused` where the manager does not take it. */
export async function keepToken(lab: string, credentials: Credentials, signal: AbortSignal): Promise<void> {
  saveCredentials(credentials, credentialsFile(configHome(lab)));
  try {
    await managerClient(credentials).call(getWhoAmI, {}, { signal });
  } catch (cause) {
    if (!isTrustError(cause) || cause.category !== 'unauthenticated') throw cause;
    throw new TrustError(
      'start.token_refused',
      'conflict',
      'cannot go on from the last start: its token was taken away',
      { cause, hint: `begin afresh: ./virt-trust lab down --name ${lab} --delete-state` },
    );
  }
}

/**
 * Saves the demo's token as `virt-trust login` does, unless somebody's own is saved there; returns what a shell needs
 * before it can use the commands, which is nothing where the token was saved.
 */
export function logIn(lab: string, credentials: Credentials): string[] {
  if (!mayReplaceSaved()) return [`export XDG_CONFIG_HOME=${configHome(lab)}`];
  saveCredentials({ ...credentials, savedBy: SAVED_BY });
  return [];
}

/** Whether no token is saved for the command line but one of a demo, which keeps a copy of its own. */
export function mayReplaceSaved(): boolean {
  try {
    const saved = savedCredentials();
    return saved === undefined || saved.savedBy === SAVED_BY;
  } catch {
    // Whatever it is, it is not ours to replace.
    return false;
  }
}

/** Whether the token that is saved for the command line is one of the manager at this URL. */
export async function savedTokenWorks(url: string): Promise<boolean> {
  try {
    const saved = savedCredentials();
    if (saved?.url !== url) return false;
    await managerClient(saved).call(getWhoAmI, {});
    return true;
  } catch {
    return false;
  }
}
