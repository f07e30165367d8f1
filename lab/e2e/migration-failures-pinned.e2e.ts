import { describe } from 'node:test';
import { canBootLab } from '../src/capability.ts';
import { destinationDies, partsFail } from './failure-cases.ts';
import { failureScene } from './failure-scene.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;

describe('migrations that go wrong in mode pinned', { skip }, () => {
  const scene = failureScene(`e2e-fail-pinned-${process.pid}`);
  destinationDies(scene, 'pinned');
  partsFail(scene, 'pinned');
});
