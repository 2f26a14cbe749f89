//! What there is to see of a farm that stays up.

use super::farm::{DOMAIN, Farm};
use super::show::Stage;

impl Stage {
    pub fn stay(&self, farm: &Farm) {
        let (gateway, ops) = (farm.gateway(), farm.ops());
        self.step("The farm stays up until you press Ctrl-C.");
        self.say("   See it and its uploads in a browser:");
        self.say_as_it_is(&format!("\n      {}\n", farm.page()));
        self.say("   In another terminal:");
        self.say("   Upload a file of yours, slowly, and see it on its way:");
        self.say_as_it_is(&format!(
            "\n      export BITSGW_CONFIG={}\n      \
             bits-gateway upload FILE http://upload.{DOMAIN}:{}/in/ \\\n          \
             --resolve '*:{gateway}' --limit-rate 200KiB &\n      \
             bits-gateway sessions list\n      \
             bits-gateway backends list\n      \
             bits-gateway top\n",
            farm.configuration().display(),
            gateway.port(),
        ));
        self.say("   Take a server out of service, for maintenance say, and back:");
        self.say_as_it_is(
            "\n      bits-gateway backends drain up01\n      \
             bits-gateway backends ready up01\n      \
             bits-gateway events\n",
        );
        self.say("   And what a monitoring system sees:");
        self.say_as_it_is(&format!(
            "\n      bits-gateway health --ops {ops}\n      curl http://{ops}/readyz?verbose\n      \
             curl http://{ops}/metrics\n"
        ));
    }
}
