/** Documents the `Location` of a response that made something. */
export const locationHeader = (description: string) => ({
  Location: { description, required: true, schema: { type: 'string' as const, format: 'uri-reference' } },
});
