import * as backward from './backward-steps.ts';
import * as forward from './forward-steps.ts';
import { awaitMigrations } from './migration-wait.ts';
import * as removal from './removal.ts';
import type { StepTable } from './run.ts';

/** What each step of a plan does. */
export const STEPS: StepTable = {
  service: {
    request: forward.request,
    stage: forward.stage,
    verify: forward.verify,
    install: forward.install,
    link: forward.link,
    switch: forward.switchService,
    reload: forward.reload,
    prove: forward.prove,
    clean: forward.cleanService,
    'back-switch': backward.switchService,
    'back-links': backward.links,
    'back-reload': backward.reload,
    'back-prove': backward.prove,
    'remove-switch': removal.switchService,
    'remove-links': removal.links,
    'remove-reload': removal.reload,
  },
  host: {
    'keep-found': forward.keepFound,
    'await-certificates': forward.awaitCertificates,
    'permit-reading': forward.permitReading,
    'keep-settings': forward.keepSettings,
    'write-settings': forward.writeSettings,
    'await-migrations': awaitMigrations,
    'bring-daemon': forward.bringDaemon,
    'open-ports': forward.openPorts,
    'await-proof': forward.awaitProof,
    settle: forward.settle,
    'back-settings': backward.settings,
    'back-daemon': backward.daemon,
    'back-ports': backward.ports,
    'back-settle': backward.settle,
    'remove-settings': removal.settings,
    'remove-daemon': removal.daemon,
    'remove-ports': removal.ports,
    'remove-reading': removal.reading,
    'remove-state': removal.state,
    'off-state': removal.off,
  },
};
