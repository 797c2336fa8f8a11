import { ApiProperty } from '@nestjs/swagger';

class RepliesOfDayDto {
  @ApiProperty({
    type: 'integer',
    minimum: 0,
    description: 'Without those that said that the budget is spent.',
  })
  completed!: number;
  @ApiProperty({ type: 'integer', minimum: 0 })
  failed!: number;
  @ApiProperty({ type: 'integer', minimum: 0 })
  cancelled!: number;
  @ApiProperty({ type: 'integer', minimum: 0, description: 'Said that the budget of the day is spent.' })
  budget!: number;
}

export class UsageOfModelDto {
  @ApiProperty({
    type: 'integer',
    minimum: 0,
    description: 'Replies that it was asked for, however they ended.',
  })
  replies!: number;
  @ApiProperty({ type: 'integer', minimum: 0 })
  inputTokens!: number;
  @ApiProperty({ type: 'integer', minimum: 0 })
  outputTokens!: number;
}

export class UsageOfDayDto {
  @ApiProperty({ format: 'date', description: 'Of UTC.' })
  date!: string;
  @ApiProperty({ type: 'integer', minimum: 0, description: 'Messages of users.' })
  messages!: number;
  @ApiProperty({ description: 'Replies that ended on this day, by how.' })
  replies!: RepliesOfDayDto;
  @ApiProperty({
    type: 'integer',
    minimum: 0,
    description:
      'As providers count them, estimated where they do not; what was begun and failed or was cancelled is in it.',
  })
  inputTokens!: number;
  @ApiProperty({ type: 'integer', minimum: 0 })
  outputTokens!: number;
  @ApiProperty({
    type: 'object',
    additionalProperties: { $ref: '#/components/schemas/UsageOfModelDto' },
    description: 'By the name of the model.',
  })
  byModel!: Record<string, UsageOfModelDto>;
}

export class UsageDto {
  @ApiProperty({ type: [UsageOfDayDto], description: 'One for each day, today last.' })
  days!: UsageOfDayDto[];
}
