import type { TSchema } from 'typebox';
import type { Operation } from './operation.ts';
import { Problem } from './problem.ts';

/** The OpenAPI 3.1 document of a table of operations, from the very schemas that validate. */
export function openApiDocument(
  title: string,
  version: string,
  operations: readonly Operation[],
  extend: (operation: Operation) => object = () => ({}),
): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const operation of operations) {
    const item = paths[operation.path] ?? {};
    paths[operation.path] = item;
    item[operation.method.toLowerCase()] = { ...describe(operation), ...extend(operation) };
  }
  return {
    openapi: '3.1.0',
    info: { title, version, license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } },
    paths,
  };
}

function describe(operation: Operation): object {
  const produces = operation.produces ?? 'application/json';
  const parameters = [...parametersOf('path', operation.params), ...parametersOf('query', operation.query)];
  return {
    operationId: operation.id,
    summary: operation.summary,
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(operation.body === undefined
      ? {}
      : { requestBody: { required: true, content: { 'application/json': { schema: operation.body } } } }),
    responses: {
      [operation.status]:
        operation.status === 204
          ? { description: 'Done' }
          : { description: 'Done', content: { [produces]: { schema: operation.result } } },
      default: { description: 'Problem', content: { 'application/problem+json': { schema: Problem } } },
    },
  };
}

function parametersOf(place: 'path' | 'query', schema: TSchema | undefined): object[] {
  const object = schema as { properties?: Record<string, TSchema>; required?: string[] } | undefined;
  return Object.entries(object?.properties ?? {}).map(([name, property]) => ({
    name,
    in: place,
    required: place === 'path' || (object?.required ?? []).includes(name),
    schema: property,
  }));
}
