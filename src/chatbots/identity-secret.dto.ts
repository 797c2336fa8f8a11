import { ApiProperty } from '@nestjs/swagger';
import { Flag } from '../http/flag.js';

export class RotateIdentitySecretDto {
  @Flag('Whether the one before ends at once.')
  revokePrevious?: boolean;
}

export class IdentitySecretDto {
  @ApiProperty({ description: 'For your server alone: whoever has it may say who a guest is.' })
  secret!: string;
}
