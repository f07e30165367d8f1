import { MANAGER_OPERATIONS } from '@virt-trust/contract/manager/operations.ts';
import { openApiDocument } from '@virt-trust/contract/openapi.ts';

/** The OpenAPI 3.1 document of the manager's API, with the role that each operation needs. */
export function managerOpenApi(version: string): object {
  const access = new Map(MANAGER_OPERATIONS.map((operation) => [operation.id, operation.access]));
  const document = openApiDocument('virt-trust manager', version, MANAGER_OPERATIONS, ({ id }) => {
    const role = access.get(id);
    return role === 'public' ? { security: [] } : { security: [{ token: [] }], 'x-role': role };
  });
  return { ...document, components: { securitySchemes: { token: { type: 'http', scheme: 'bearer' } } } };
}
