#include "cli/xml_output.h"

#include <gtest/gtest.h>

namespace vdvs::cli {
namespace {

TEST(XmlOutput, OfATableIsAListOfStructures) {
  EXPECT_EQ(xml_table({"Uuid", "Name"}, {{"1", "a<b>&\"c\""}, {"2", ""}}),
            "<?xml version=\"1.0\"?>\n"
            "<output xmlns=\"http://www.vmware.com/Products/ESX/6.0/esxcli/\">\n"
            "\t<list type=\"structure\">\n"
            "\t\t<structure typeName=\"vdvs\">\n"
            "\t\t\t<field name=\"Uuid\">\n"
            "\t\t\t\t<string>1</string>\n"
            "\t\t\t</field>\n"
            "\t\t\t<field name=\"Name\">\n"
            "\t\t\t\t<string>a&lt;b&gt;&amp;\"c\"</string>\n"
            "\t\t\t</field>\n"
            "\t\t</structure>\n"
            "\t\t<structure typeName=\"vdvs\">\n"
            "\t\t\t<field name=\"Uuid\">\n"
            "\t\t\t\t<string>2</string>\n"
            "\t\t\t</field>\n"
            "\t\t\t<field name=\"Name\">\n"
            "\t\t\t\t<string />\n"
            "\t\t\t</field>\n"
            "\t\t</structure>\n"
            "\t</list>\n"
            "</output>\n");
}

TEST(XmlOutput, OfAnEmptyTableIsOneStructureOfEmptyFields) {
  EXPECT_EQ(xml_table({"Name"}, {}),
            "<?xml version=\"1.0\"?>\n"
            "<output xmlns=\"http://www.vmware.com/Products/ESX/6.0/esxcli/\">\n"
            "\t<list type=\"structure\">\n"
            "\t\t<structure typeName=\"vdvs\">\n"
            "\t\t\t<field name=\"Name\">\n"
            "\t\t\t\t<string />\n"
            "\t\t\t</field>\n"
            "\t\t</structure>\n"
            "\t</list>\n"
            "</output>\n");
}

TEST(XmlOutput, OfTextIsOneString) {
  EXPECT_EQ(xml_text("one\ntwo"),
            "<?xml version=\"1.0\"?>\n"
            "<output xmlns=\"http://www.vmware.com/Products/ESX/6.0/esxcli/\">\n"
            "\t<string>one\ntwo</string>\n"
            "</output>\n");
}

TEST(XmlOutput, HoldsNothingThatXmlCannotHold) {
  EXPECT_NE(xml_text(std::string("a\0b\x1b", 4)).find("<string>a?b?</string>"), std::string::npos);
}

}  // namespace
}  // namespace vdvs::cli
