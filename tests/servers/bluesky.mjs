// A Bluesky personal data server and the directory it needs, on 127.0.0.1 only.
import net from 'node:net'
import { createRequire } from 'node:module'
const [, , home, folder, pdsPort, plcPort] = process.argv
const listen = net.Server.prototype.listen
net.Server.prototype.listen = function (...args) {
  if (typeof args[0] === 'number' || typeof args[0] === 'string') {
    const done = args.find((one) => typeof one === 'function')
    return listen.call(this, { port: Number(args[0]), host: '127.0.0.1' }, done)
  }
  if (args[0] && typeof args[0] === 'object') args[0].host = '127.0.0.1'
  return listen.apply(this, args)
}
const need = createRequire(home + '/')
const { PlcServer, Database } = need('@did-plc/server')
const plc = PlcServer.create({ db: Database.mock(), port: Number(plcPort) })
await plc.start()
const { PDS, envToCfg, envToSecrets, readEnv } = need('@atproto/pds')
Object.assign(process.env, {
  PDS_HOSTNAME: 'localhost', PDS_PORT: pdsPort, PDS_DEV_MODE: 'true', PDS_INVITE_REQUIRED: 'false',
  PDS_DATA_DIRECTORY: folder, PDS_BLOBSTORE_DISK_LOCATION: folder + '/blobs', PDS_ADMIN_PASSWORD: 'admin',
  PDS_JWT_SECRET: 'a'.repeat(32), PDS_DID_PLC_URL: `http://127.0.0.1:${plcPort}`,
  PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX: '11'.repeat(32), PDS_CRAWLERS: '', LOG_ENABLED: 'false',
})
const env = readEnv()
const pds = await PDS.create(envToCfg(env), envToSecrets(env))
await pds.start()
console.log('ready')
process.on('SIGTERM', () => process.exit(0))
