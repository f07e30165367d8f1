import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { VERSION } from '@virt-trust/base/version.ts';
import type { AgentOperation } from '@virt-trust/contract/agent/agent-operation.ts';
import { AGENT_OPERATIONS } from '@virt-trust/contract/agent/operations.ts';
import { openApiDocument } from '@virt-trust/contract/openapi.ts';
import { managerOpenApi } from '@virt-trust/manager/http/openapi.ts';

/** The OpenAPI documents of this checkout's code, by the file that each is committed as. */
function openApiDocuments(): Readonly<Record<string, object>> {
  return {
    'docs/openapi/manager.json': managerOpenApi(VERSION),
    'docs/openapi/agent.json': agentOpenApi(VERSION),
  };
}

/** The agent's API with the doors that each operation can be reached by. */
function agentOpenApi(version: string): object {
  return openApiDocument('virt-trust agent', version, AGENT_OPERATIONS, (operation) => ({
    'x-doors': (operation as AgentOperation).doors ?? [],
  }));
}

/** The documents committed in the checkout at `root` that are not what the code makes, one line each. */
export function openApiDrift(root: string): string[] {
  return Object.entries(openApiDocuments())
    .filter(([file, document]) => readOrEmpty(join(root, file)) !== textOf(document))
    .map(([file]) => `${file} is out of step with the code: write it with ./virt-trust openapi`);
}

/** Writes the documents into the checkout at `root`. */
export function writeOpenApi(root: string): void {
  for (const [file, document] of Object.entries(openApiDocuments())) {
    mkdirSync(dirname(join(root, file)), { recursive: true });
    writeFileSync(join(root, file), textOf(document));
  }
}

function textOf(document: object): string {
  return `${JSON.stringify(document, null, 1)}\n`;
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  writeOpenApi(join(import.meta.dirname, '..'));
}
