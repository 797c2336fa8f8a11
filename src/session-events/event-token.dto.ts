import { ApiProperty } from '@nestjs/swagger';

export class EventTokenDto {
  @ApiProperty({ description: 'For ?token= of the events route.' })
  token!: string;
  @ApiProperty({ format: 'date-time' })
  expiresAt!: string;
}
