import { registerDecorator, type ValidationArguments } from 'class-validator';

/**
 * A rule of a field of a request body.
 *
 * @param name of the rule, unique for the field
 * @param problemOf what is wrong with a value; null: nothing
 */
export const Checked =
  (name: string, problemOf: (value: unknown) => string | null): PropertyDecorator =>
  (target, property) => {
    registerDecorator({
      name,
      target: target.constructor,
      propertyName: String(property),
      validator: {
        validate: (value: unknown) => problemOf(value) === null,
        defaultMessage: (args?: ValidationArguments) => problemOf(args?.value) ?? '',
      },
    });
  };
