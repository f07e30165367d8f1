import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { AGENT_OPERATIONS, type AgentOperation } from '@virt-trust/contract/agent/operations.ts';
import { MANAGER_OPERATIONS, type ManagerOperation } from '@virt-trust/contract/manager/operations.ts';
import { openApiDocument } from '@virt-trust/contract/openapi.ts';
import packageJson from '../package.json' with { type: 'json' };

const DOCUMENTS: Readonly<Record<string, () => object>> = {
  'docs/openapi/manager.json': () =>
    openApiDocument('virt-trust manager', packageJson.version, MANAGER_OPERATIONS, (operation) => ({
      'x-access': (operation as ManagerOperation).access,
    })),
  'docs/openapi/agent.json': () =>
    openApiDocument('virt-trust agent', packageJson.version, AGENT_OPERATIONS, (operation) => ({
      'x-doors': (operation as AgentOperation).doors ?? [],
    })),
};

function textOf(document: object): string {
  return `${JSON.stringify(document, null, 1)}\n`;
}

/** The committed OpenAPI documents that are not what the code makes, one line each. */
export function openApiDrift(root: string): string[] {
  return Object.entries(DOCUMENTS)
    .filter(([file, make]) => readOrEmpty(join(root, file)) !== textOf(make()))
    .map(([file]) => `${file} is out of step with the code: write it with ./virt-trust openapi`);
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const root = join(import.meta.dirname, '..');
  for (const [file, make] of Object.entries(DOCUMENTS)) writeFileSync(join(root, file), textOf(make()));
}
